package world

import (
	"fmt"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// HomeMade is a layout that nobody else knows.
var HomeMade = runtime.JSONLayout(runtime.JSONFields{Addr: "url", Version: "ver", Weight: "w", Metadata: "labels", Name: "service"})

// layouts are all layouts that our servers can write.
var layouts = func() (all []runtime.Layout) {
	for _, l := range endpoint.Layouts() {
		all = append(all, endpoint.Public(l).(runtime.Layout))
	}
	return append(all, HomeMade)
}()

// layoutOf returns what a layout is inside, the zero one if it is home-made.
func layoutOf(layout runtime.Layout) endpoint.Layout {
	for _, l := range endpoint.Layouts() {
		if endpoint.Public(l) == layout {
			return l
		}
	}
	return endpoint.Layout{}
}

// What a reader of one layout makes of an entry in a second layout beside it.
const (
	SharesKey = "shares the key" // the two cannot be written together
	Accepts   = "accepts it"     // it finds the server as if the first layout were the only one
)

// Beside registers a server in a reader's own layout together with each of the other layouts, and compares what the
// reader makes of that with what is known; nil is for every layout of JSON that the reader has never heard of. key returns the key of a service. reads returns Accepts, or what else the
// reader does.
func Beside(t *testing.T, own runtime.Layout, key func(service string) string, known map[runtime.Layout]string,
	reads func(w *World, service, addr string) string,
) {
	t.Helper()
	w := New(t)
	for i, second := range layouts {
		if second == own {
			continue
		}
		service := fmt.Sprintf("service%d", i)
		at := runtime.Endpoint{
			Instance: "one", Addr: "127.0.0.1:9000", Version: "v2", Weight: 7, Metadata: map[string]string{"k": "v"},
		}
		registration, err := w.Registry.Register(w.Context(), key(service), at, runtime.WithLayouts(own, second))
		got := SharesKey
		if err == nil {
			got = reads(w, service, at.Addr)
			err = registration.Close(w.Context())
		} else if known[second] == SharesKey {
			err = nil
		}
		want, ok := known[second]
		if !ok {
			want = known[nil]
		}
		if got != want || err != nil {
			t.Errorf("beside %s: %q, %v; known is %q", second, got, err, want)
		}
		if second == HomeMade || got == SharesKey {
			continue
		}
		if does := endpoint.Trouble(layoutOf(own), layoutOf(second)); (does == "") != (got == Accepts) {
			t.Errorf("beside %s: %q, and package endpoint says %q", second, got, does)
		}
	}
}
