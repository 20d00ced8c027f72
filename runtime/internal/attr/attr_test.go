package attr

import (
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func TestState(t *testing.T) {
	if StateOf(resolver.State{}) != nil {
		t.Error("a state that was not set")
	}
	s := &State{Sequence: 7}
	if got := StateOf(SetState(resolver.State{}, s)); got != s {
		t.Errorf("got %v", got)
	}
}

// A list of methods that is too long is as none (S7).
func TestMethodsOfAnyLengthAreNotRead(t *testing.T) {
	for _, tt := range []struct{ bytes, want int }{{endpoint.MaxMethods, endpoint.MaxMethods}, {endpoint.MaxMethods + 1, 0}} {
		ep := New(&endpoint.Endpoint{Metadata: map[string]string{endpoint.MethodsName: strings.Repeat("x", tt.bytes)}, Addr: "a:1"}, new(Storage))
		if got := len(Methods(ep)); got != tt.want {
			t.Errorf("of %d bytes %d were read, want %d", tt.bytes, got, tt.want)
		}
	}
}
