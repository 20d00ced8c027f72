package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	clientv3 "go.etcd.io/etcd/client/v3"
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

type silent struct{}

func (silent) Get(ctx context.Context, _ string, _ ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (silent) Watch(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan { return nil }
func (silent) RequestProgress(context.Context) error                                  { return nil }

// TestK1_AKeyIsNotForgottenBeforeItIsRead has another key asked for between Keys.Key and Key.Read of
// one reader, in a process that knows many: two readers of one key must not have two states of it.
func TestK1_AKeyIsNotForgottenBeforeItIsRead(t *testing.T) {
	ks := NewKeys(Config{Client: silent{}, Streams: listwatch.NewStreams(), Logger: slog.New(slog.DiscardHandler), Endpoints: func() []string { return nil }})
	defer ks.Close()
	for i := range maxKeys {
		defer ks.Key(fmt.Sprint("many/", i), endpoint.Reader{}).Read(func() {})()
	}
	one := ks.Key("acme/user", endpoint.Reader{})
	defer ks.Key("acme/other", endpoint.Reader{}).Read(func() {})() // by somebody else, just now
	defer one.Read(func() {})()
	if two := ks.Key("acme/user", endpoint.Reader{}); one != two {
		t.Error("the second reader of the key has a state of its own")
	}
}
