package attr

import (
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// A list of methods that is too long is ignored (S7).
func TestMethods_IgnoresLongLists(t *testing.T) {
	for _, tt := range []struct{ bytes, want int }{{endpoint.MaxMethods, endpoint.MaxMethods}, {endpoint.MaxMethods + 1, 0}} {
		ep := New(&endpoint.Endpoint{Metadata: map[string]string{endpoint.MethodsName: strings.Repeat("x", tt.bytes)}, Addr: "a:1"}, new(Storage))
		if got := len(Methods(ep)); got != tt.want {
			t.Errorf("Methods of a list of %d bytes has %d bytes, want %d", tt.bytes, got, tt.want)
		}
	}
}
