package statuspage

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var status = runtime.RegistryStatus{
	Keys: []runtime.KeyStatus{
		{Key: "acme/user", Connections: 2, Known: true, Changed: now.Add(-90 * time.Second), Held: 1, ServiceConfig: `{"x":1}`, Endpoints: []runtime.Endpoint{
			{Instance: "a", Addr: "10.0.0.1:1", Version: "v1", Weight: 3, Metadata: map[string]string{"k": "<script>alert(1)</script>"}},
		}},
		{Key: "acme/late", Err: errors.New("etcd is <away>")},
		{Key: "acme/old", Known: true, Provisional: true, Changed: now},
	},
	Registrations: []runtime.Status{{Key: "acme/me", State: runtime.StateRegistered, LeaseID: 0xabc, Since: now.Add(-time.Minute)}},
}

func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := tmpl.Execute(&b, newView(status, now)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"acme/user", "10.0.0.1:1", "1m30s", "2 connections, 1 endpoint,", "1 of them gone", "etcd is &lt;away&gt;", "&lt;script&gt;", "abc", "registered", `class="state stale"`, `class="state unknown"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(b.String(), "<script>") {
		t.Error("metadata is not escaped")
	}
}

func TestJSON(t *testing.T) {
	text, err := json.Marshal(newView(status, now))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"time":"2026-01-02T03:04:05Z","keys":[` +
		`{"key":"acme/user","state":"following","connections":2,"held":1,"age":"1m30s","serviceConfig":"{\"x\":1}","endpoints":[{"instance":"a","addr":"10.0.0.1:1","version":"v1","weight":3,"metadata":{"k":"\u003cscript\u003ealert(1)\u003c/script\u003e"}}]},` +
		`{"key":"acme/late","state":"unknown","error":"etcd is \u003caway\u003e","connections":0,"endpoints":[]},` +
		`{"key":"acme/old","state":"stale","connections":0,"age":"0s","endpoints":[]}],` +
		`"registrations":[{"key":"acme/me","state":"registered","since":"1m0s","lease":"abc"}]}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
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
		{"POST", "/", "", 405, "text/plain; charset=utf-8"},
	} {
		req := httptest.NewRequest(tt.method, tt.url, nil)
		req.Header.Set("Accept", tt.accept)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if w.Code != tt.code || w.Header().Get("Content-Type") != tt.contentType {
			t.Errorf("%s %s accepting %q: %d, %s", tt.method, tt.url, tt.accept, w.Code, w.Header().Get("Content-Type"))
		}
	}
}
