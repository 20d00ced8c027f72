package leader

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var desc = &runtime.ServiceDesc{Name: "a.A", Key: "a", Extension: Methods{"/a.A/Do"}}

// A pointer to Methods, or a struct that embeds them, is an Extension, too.
func TestOf_SeesEachExtension(t *testing.T) {
	for _, x := range []runtime.Extension{&Methods{"/a.A/Do"},
		struct{ Methods }{Methods{"/a.A/Do"}}} {
		l := Of(runtime.NewRegistry(nil), &runtime.ServiceDesc{Name: "a.A", Key: "a", Extension: x})
		if len(l.methods) != 1 {
			t.Errorf("with a %T, the methods are %v, want one", x, l.methods)
		}
	}
}

// Without a usable registry or server, Run, servers and clients return why
// instead of waiting.
func TestMethods_WithoutClient(t *testing.T) {
	run := func(l *Leadership) error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()

		return l.Run(ctx, func(context.Context, int64) error { return nil })
	}

	none := runtime.NewRegistry(nil)
	server := none.NewServer(grpc.NewServer())
	server.Publish(desc)
	_, ofClient := none.NewClient(desc)

	_, ofFollow := none.Follow(desc, func() {})
	for _, row := range []struct {
		what string
		err  error
		want string
	}{
		{"Run of no registry", run(Of[*runtime.Registry](nil, desc)), "the registry is nil"},
		{"Run of no server", run(Of[*runtime.Server](nil, desc)), "the server is nil"},
		{"Run", run(Of(none, desc)), "nil etcd client"},
		{"Run with half a client",
			run(Of(runtime.NewRegistry(clientv3.NewCtxClient(t.Context())), desc)),
			"etcd client that lacks a part"},
		{"Announce", server.Announce(t.Context(), "127.0.0.1:1"), "nil etcd client"},
		{"NewClient", ofClient, "nil etcd client"},
		{"Follow", ofFollow, "nil etcd client"},
	} {
		if row.err == nil || !strings.Contains(row.err.Error(), row.want) {
			t.Errorf("%s returned the error %v, want one with %q", row.what, row.err, row.want)
		}
	}
}

// An entry that cannot stand for election is refused when it is announced,
// before any call to etcd.
func TestMethods_RefuseEntries(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	registry := runtime.NewRegistry(client)
	defer registry.Close(ctx)

	for want, opts := range map[string][]runtime.RegisterOption{
		"set a shorter one": {
			runtime.WithInstance(strings.Repeat("a", candidate.MaxInstance+1))},
		"leave out the id or a": {runtime.WithInstance("a"),
			runtime.WithLayouts(runtime.EndpointJSON, runtime.LeaseSuffix)},
	} {
		server := registry.NewServer(grpc.NewServer())
		server.Publish(desc, opts...)

		err := server.Announce(ctx, "127.0.0.1:1")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Announce: %v, want an error with %q", err, want)
		}
	}
}
