package world

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// homeMade is a layout that no other system has.
var homeMade = endpoint.MappedJSON(endpoint.JSONFields{Addr: "url", Version: "ver", Weight: "w", Metadata: "labels", Name: "service"})

// Beside registers a server in a reader's own layout and in each of the others, and compares the reader's reaction with the table of
// package endpoint. key returns the key of a service. reads returns "" if the reader finds the server at addr, and otherwise its reaction.
func Beside(t *testing.T, own endpoint.Layout, key func(service string) string, reads func(w *World, service, addr string) string) {
	t.Helper()
	w := New(t)
	public := func(l endpoint.Layout) runtime.Layout { return endpoint.Public(l).(runtime.Layout) }
	at := runtime.Endpoint{Instance: "one", Addr: "127.0.0.1:9000", Version: "v2", Weight: 7, Metadata: map[string]string{"k": "v"}}
	for i, second := range append(endpoint.Layouts(), homeMade) {
		service := fmt.Sprintf("service%d", i)
		registration, err := w.Registry.Register(w.Context(), key(service), at, runtime.WithLayouts(public(own), public(second)))
		if err != nil {
			continue // one key for both, as package endpoint tests
		}
		want := endpoint.Trouble(own, second)
		if got := reads(w, service, at.Addr); (got == "") != (want == "") || !strings.Contains(want, got) {
			t.Errorf("with the layout %s: %q, and package endpoint says %q", second, got, want)
		}
		if err := registration.Close(w.Context()); err != nil {
			t.Error(err)
		}
	}
}
