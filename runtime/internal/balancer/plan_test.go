package balancer

import (
	"encoding/json"
	"hash/maphash"
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// ends makes endpoints of "name version zone methods", "-" for nothing.
func ends(specs ...string) []resolver.Endpoint {
	var all []resolver.Endpoint
	for _, spec := range specs {
		f := append(strings.Fields(strings.ReplaceAll(spec, "-", `""`)), `""`, `""`, `""`)
		for i := range f {
			f[i] = strings.ReplaceAll(f[i], `""`, "")
		}
		all = append(all, attr.New(&endpoint.Endpoint{
			Instance: f[0], Addr: f[0] + ":1", Version: f[1], Zone: f[2],
			Metadata: map[string]string{endpoint.MethodsName: f[3]},
		}, new(attr.Storage)))
	}
	return all
}

func mustConfig(t *testing.T, text string) *config {
	t.Helper()
	c, err := parseConfig(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var seedOfTests = maphash.MakeSeed()
