package discovery

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

// firstStates counts the states that gRPC is given.
type firstStates struct {
	resolver.ClientConn
	n int
}

func (c *firstStates) UpdateState(resolver.State) error { c.n++; return nil }

func (c *firstStates) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return new(serviceconfig.ParseResult)
}

// A connection of ours has its service config at once, though etcd never answers: calls end by their method's timeout.
func TestK10_AStateBeforeTheFirstList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ks := NewKeys(Config{Client: silent{}, Streams: listwatch.NewStreams(), Logger: slog.New(slog.DiscardHandler), Endpoints: func() []string { return nil }})
		defer ks.Close()
		cc := new(firstStates)
		r := Resolve(ks.Key("acme/user", endpoint.Reader{}), cc, Options{Ours: true, Client: new(attr.Client), Config: func(string) string { return "{}" }})
		defer r.Close()
		synctest.Wait()
		if cc.n != 1 {
			t.Errorf("gRPC was given %d states, want 1", cc.n)
		}
	})
}
