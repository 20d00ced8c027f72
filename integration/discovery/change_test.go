package discovery

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// TestResolverAmongTheOptions does not replace the client's own resolver, which knows the authority.
func TestResolverAmongTheOptions(t *testing.T) {
	w := newWorld(t, nil)
	s := w.register(w.serve("a"))
	desc := basic.Greeter_EtcdServiceDesc
	desc.Authority = "greeter.example"
	conn, err := w.registry.NewClient(&desc, grpc.WithResolvers(w.registry.Resolver()), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	reached(t, conn, soon, "a")
	if got := s.authority.Load(); got != "greeter.example" {
		t.Errorf("the server saw the authority %v", got)
	}
}
