package statuspage

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var status = runtime.RegistryStatus{
	Etcd: runtime.EtcdStatus{Endpoints: []string{"10.0.0.9:2379"}, Err: errors.New("connection <refused>")},
	Keys: []runtime.KeyStatus{
		{Key: "acme/user", Connections: 2, Known: true, Changed: now.Add(-90 * time.Second), Held: 1, HeldAddrs: []string{"10.0.0.2:1"}, DrainedAddrs: []string{"10.0.0.3:1"}, ServiceConfig: `{"x":1}`, Endpoints: []runtime.Endpoint{
			{Instance: "a", Addr: "10.0.0.1:1", Version: "v1", Weight: 3, Metadata: map[string]string{"k": "<script>alert(1)</script>"}},
			{Instance: "b", Addr: "10.0.0.2:1"}, {Instance: "c", Addr: "10.0.0.3:1"},
		}, Leaving: []runtime.Endpoint{{Instance: "d", Addr: "10.0.0.4:1"}}},
		{Key: "acme/late", Err: errors.New("etcd is <away>")},
		{Key: "acme/old", Connections: 3, Away: 1, Known: true, Provisional: true, Changed: now, ConfigErr: errors.New("not <JSON>")},
	},
	Registrations: []runtime.Status{{Key: "acme/me", State: runtime.StateRegistered, LeaseID: 0xabc, Since: now.Add(-time.Minute)}},
}

func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := writeHTML(&b, status, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"acme/user", "10.0.0.1:1", "1m30s", "2 connections, 3 endpoints,", "1 of them gone", "3 connections (1 with calls that go to another cluster), 0 endpoints", "etcd is &lt;away&gt;", "not &lt;JSON&gt;", "&lt;script&gt;", "abc", "registered", `class="state stale"`, `class="state unknown"`,
		`etcd: <code>10.0.0.9:2379</code> <span class="state lost">not connected</span>`, "connection &lt;refused&gt;", "<pre>{\n  &#34;x&#34;: 1\n}</pre>",
		`10.0.0.2:1</td><td><span class="state held">held</span></td>`, `10.0.0.3:1</td><td><span class="state drained">drained</span></td>`,
		`10.0.0.4:1</td><td><span class="state leaving">leaving</span></td>`, `10.0.0.1:1</td><td></td>`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(b.String(), "<script>") {
		t.Error("metadata is not escaped")
	}
}

func TestJSON(t *testing.T) {
	var b, text bytes.Buffer
	if err := writeJSON(&b, status, now); err != nil {
		t.Fatal(err)
	}
	if err := json.Compact(&text, b.Bytes()); err != nil {
		t.Fatal(err)
	}
	const want = `{"time":"2026-01-02T03:04:05Z","etcd":{"endpoints":["10.0.0.9:2379"],"error":"connection \u003crefused\u003e"},"keys":[` +
		`{"key":"acme/user","state":"following","connections":2,"held":1,"age":"1m30s","serviceConfig":"{\"x\":1}","endpoints":[{"instance":"a","addr":"10.0.0.1:1","version":"v1","weight":3,"metadata":{"k":"\u003cscript\u003ealert(1)\u003c/script\u003e"}},{"instance":"b","addr":"10.0.0.2:1","held":true},{"instance":"c","addr":"10.0.0.3:1","drained":true}],"leaving":[{"instance":"d","addr":"10.0.0.4:1"}]},` +
		`{"key":"acme/late","state":"unknown","error":"etcd is \u003caway\u003e","connections":0,"endpoints":[]},` +
		`{"key":"acme/old","state":"stale","connections":3,"away":1,"age":"0s","serviceConfigError":"not \u003cJSON\u003e","endpoints":[]}],` +
		`"registrations":[{"key":"acme/me","state":"registered","since":"1m0s","lease":"abc"}]}`
	if text.String() != want {
		t.Errorf("got  %s\nwant %s", &text, want)
	}
}

func TestHandler(t *testing.T) {
	handler := Handler(runtime.NewRegistry(nil))
	for _, tt := range []struct {
		method, url, accept string
		code                int
		contentType         string
	}{
		{"GET", "/", "text/html,*/*", 200, "text/html; charset=utf-8"},
		{"GET", "/", "", 200, "text/html; charset=utf-8"},
		{"GET", "/", "application/json", 200, "application/json"},
		{"GET", "/?format=json", "text/html", 200, "application/json"},
		{"HEAD", "/", "", 200, "text/html; charset=utf-8"},
		{"POST", "/", "", 405, "text/plain; charset=utf-8"},
		{"DELETE", "/", "", 405, "text/plain; charset=utf-8"},
		{"OPTIONS", "/", "", 405, "text/plain; charset=utf-8"},
	} {
		req := httptest.NewRequest(tt.method, tt.url, nil)
		req.Header.Set("Accept", tt.accept)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if w.Code != tt.code || w.Header().Get("Content-Type") != tt.contentType {
			t.Errorf("%s %s accepting %q: %d, %s", tt.method, tt.url, tt.accept, w.Code, w.Header().Get("Content-Type"))
		}
		checkHeaders(t, tt.method+" "+tt.url, w.Result())
	}
}

func checkHeaders(t *testing.T, what string, got *http.Response) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := got.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %s is %q, want %q", what, name, got, want)
		}
	}
	csp := got.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("%s: the policy lacks %q: %s", what, want, csp)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "script") {
		t.Errorf("%s: the policy is %s", what, csp)
	}
}

// TestStyle shows that a browser uses the page's style: it is there once, as the policy says it is.
func TestStyle(t *testing.T) {
	var b bytes.Buffer
	if err := writeHTML(&b, status, now); err != nil {
		t.Fatal(err)
	}
	styles := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(b.String(), -1)
	if len(styles) != 1 || strings.Contains(b.String(), "style=") {
		t.Fatalf("%d styles, or one of an element", len(styles))
	}
	sum := sha256.Sum256([]byte(styles[0][1]))
	if want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) {
		t.Errorf("the policy %s lacks %s", policy, want)
	}
}

// TestS12_Page shows a status in which every text is hostile.
func TestS12_Page(t *testing.T) {
	const evil = "a\nFIX: etcdctl del --prefix /\r\x1b[2J\u202eb\u2066\u200b\x00\xff\u2028<script>alert(1)</script>\"'`"
	hostile := func(evil string) runtime.RegistryStatus {
		return runtime.RegistryStatus{
			Etcd: runtime.EtcdStatus{Endpoints: []string{evil}, Err: errors.New(evil)},
			Keys: []runtime.KeyStatus{{
				Leaving: []runtime.Endpoint{{Instance: evil, Addr: evil, Version: evil, Zone: evil, Metadata: map[string]string{evil: evil}}},
				Key:     evil, Known: true, Changed: now, Err: errors.New(evil), ConfigErr: errors.New(evil), ServiceConfig: evil,
				Endpoints: []runtime.Endpoint{{Instance: evil, Addr: evil, Version: evil, Zone: evil, Metadata: map[string]string{evil: evil}}},
			}},
			Registrations: []runtime.Status{{Key: evil, State: runtime.StateLost, Since: now, Err: errors.New(evil)}},
		}
	}
	for name, write := range map[string]func(io.Writer, runtime.RegistryStatus, time.Time) error{"HTML": writeHTML, "JSON": writeJSON} {
		var shown, harmless bytes.Buffer
		if err := errors.Join(write(&shown, hostile(evil), now), write(&harmless, hostile("x"), now)); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Count(shown.String(), "\n"), strings.Count(harmless.String(), "\n"); got != want {
			t.Errorf("%s: %d lines, want %d", name, got, want)
		}
		for _, line := range strings.Split(shown.String(), "\n") {
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%s: %q is shown", name, line[i:])
			}
		}
		if strings.Contains(shown.String(), "<script") {
			t.Errorf("%s: it has a script", name)
		}
	}
	var long bytes.Buffer
	if err := writeHTML(&long, hostile(strings.Repeat("x", 100_000)), now); err != nil || long.Len() > 100_000 {
		t.Errorf("long texts make a page of %d bytes, %v", long.Len(), err)
	}
}

// TestServiceConfig shows live configs in lines: whole, safe, and bounded.
func TestServiceConfig(t *testing.T) {
	many := `{"drain":[` + strings.Repeat(`"x",`, 100_000) + `"x"]}`
	for name, tt := range map[string]struct{ config, want string }{
		"in lines":    {`{"a":[{"b":{}}]}`, "{\n  \"a\": [\n    {\n      \"b\": {}\n    }\n  ]\n}"},
		"hostile":     {`{"a":"\u202e` + "\u202e" + `<script>"}`, "{\n  \"a\": \"\\u202e\\u202e<script>\"\n}"},
		"no JSON":     {"a\nb", `a\nb`},
		"a long line": {`{"a":"` + strings.Repeat("x", longest) + `"}`, "{\n  \"a\": \"" + strings.Repeat("x", longest) + "\"\n}"},
	} {
		if got := layOut(tt.config); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got := layOut(many); len(got) > longestConfig+100 || !strings.HasSuffix(got, "\n... (400015 bytes)") {
		t.Errorf("a large config makes %d bytes that end in %q", len(got), got[len(got)-40:])
	}
}
