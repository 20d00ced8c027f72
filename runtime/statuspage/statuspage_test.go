package statuspage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var status = runtime.RegistryStatus{
	Etcd: runtime.EtcdStatus{
		Endpoints: []string{"10.0.0.9:2379"},
		Err:       errors.New("connection <refused>"),
	},
	Keys: []runtime.KeyStatus{
		{
			Key:           "acme/user",
			Connections:   2,
			Known:         true,
			Changed:       now.Add(-90 * time.Second),
			Held:          1,
			HeldAddrs:     []string{"10.0.0.2:1"},
			DrainedAddrs:  []string{"10.0.0.3:1"},
			ServiceConfig: `{"x":1}`,
			Endpoints: []runtime.Endpoint{
				{
					Instance: "a",
					Addr:     "10.0.0.1:1",
					Version:  "v1",
					Weight:   3,
					Metadata: map[string]string{"k": "<script>alert(1)</script>"},
				},
				{Instance: "b", Addr: "10.0.0.2:1"}, {Instance: "c", Addr: "10.0.0.3:1"},
			}, Leaving: []runtime.Endpoint{{Instance: "d", Addr: "10.0.0.4:1"}}},
		{Key: "acme/late", Err: errors.New("etcd is <away>")},
		{
			Key:         "acme/old",
			Connections: 3,
			Away:        1,
			Known:       true,
			Provisional: true,
			Changed:     now,
			ConfigErr:   errors.New("not <JSON>"),
		},
	},
	Registrations: []runtime.Status{{
		Key:     "acme/me",
		State:   runtime.StateRegistered,
		LeaseID: 0xabc,
		Since:   now.Add(-time.Minute),
	}},
}

func TestJSON(t *testing.T) {
	shown, err := show(status, now)
	must.Succeed(t, err)
	var text bytes.Buffer
	must.Succeed(t, json.Compact(&text, shown))

	const want = `{"time":"2026-01-02T03:04:05Z","etcd":{"endpoints":["10.0.0.9:2379"],"error":"connection \u003crefused\u003e"},"keys":[` +
		`{"key":"acme/user","state":"following","connections":2,"held":1,"age":"1m30s","serviceConfig":{"x":1},"endpoints":[{"instance":"a","addr":"10.0.0.1:1","version":"v1","weight":3,"metadata":{"k":"\u003cscript\u003ealert(1)\u003c/script\u003e"}},{"instance":"b","addr":"10.0.0.2:1","held":true},{"instance":"c","addr":"10.0.0.3:1","drained":true}],"leaving":[{"instance":"d","addr":"10.0.0.4:1"}]},` +
		`{"key":"acme/late","state":"unknown","error":"etcd is \u003caway\u003e","connections":0,"endpoints":[]},` +
		`{"key":"acme/old","state":"stale","connections":3,"away":1,"age":"0s","serviceConfigError":"not \u003cJSON\u003e","endpoints":[]}],` +
		`"registrations":[{"key":"acme/me","state":"registered","since":"1m0s","lease":"abc"}]}`

	if text.String() != want {
		t.Errorf("got  %s\nwant %s", &text, want)
	}
}

func TestHandler(t *testing.T) {
	handler := Handler(runtime.NewRegistry(nil))
	for method, want := range map[string]string{
		"GET":  "200 application/json",
		"HEAD": "200 application/json",
		"POST": "405 text/plain; charset=utf-8",
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, "/", nil))

		h := w.Header()
		if got := fmt.Sprint(w.Code, " ", h.Get("Content-Type")); got != want {
			t.Errorf("%s: the status and the content type are %q, want %q", method, got, want)
		}

		if h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Cache-Control") != "no-store" ||
			h.Get("Cross-Origin-Resource-Policy") != "same-origin" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf(
				"%s: the headers %v let other sites read or frame the page, or caches keep it",
				method, h)
		}
	}
}

// TestHostileTexts renders a status in which every text is hostile.
func TestHostileTexts(t *testing.T) {
	const evil = "a\nFIX: etcdctl del --prefix /\r\x1b[2J\u202eb\u2066\u200b\x00\xff\u2028<script>alert(1)</script>\"'`"
	hostile := func(evil string) string {
		endpoints := []runtime.Endpoint{{
			Instance: evil,
			Addr:     evil,
			Version:  evil,
			Zone:     evil,
			Metadata: map[string]string{evil: evil},
		}}

		shown, err := show(runtime.RegistryStatus{
			Etcd: runtime.EtcdStatus{Endpoints: []string{evil}, Err: errors.New(evil)},
			Keys: []runtime.KeyStatus{{
				Key:       evil,
				Err:       errors.New(evil),
				ConfigErr: errors.New(evil),
				Endpoints: endpoints,
				Leaving:   endpoints,
			}},
			Registrations: []runtime.Status{
				{Key: evil, State: runtime.StateLost, Since: now, Err: errors.New(evil)}},
		}, now)

		must.Succeed(t, err)

		return string(shown)
	}

	lines := strings.Split(hostile(evil), "\n")
	if got, want := len(lines), strings.Count(hostile("x"), "\n")+1; got != want {
		t.Errorf("a page with hostile texts has %d lines, want %d as with harmless texts", got,
			want)
	}

	for _, line := range lines {
		i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) })
		if i >= 0 || strings.Contains(line, "<script") {
			t.Errorf("the line %q has text that is not escaped", line)
		}
	}
}
