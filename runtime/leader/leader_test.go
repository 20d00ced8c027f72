package leader

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader/internal/election"
)

// If no instance can ever be a candidate, Run returns why instead of waiting.
func TestRun_FailsWithoutPossibleCandidates(t *testing.T) {
	desc := &runtime.ServiceDesc{Name: "a.A", Key: "a", Extension: Methods{"/a.A/Do"}}
	for want, l := range map[string]*Leadership{
		"the registry is nil":           Of[*runtime.Registry](nil, desc),
		"the server is nil":             Of[*runtime.Server](nil, desc),
		"given a nil etcd client":       Of(runtime.NewRegistry(nil), desc),
		"etcd client that lacks a part": Of(runtime.NewRegistry(clientv3.NewCtxClient(t.Context())), desc),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := l.Run(ctx, func(context.Context, int64) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run returned the error %v, want one with %q", err, want)
		}
	}
}

// A registry without an etcd client reports that to servers and clients with an extension, too.
func TestMethods_WithoutClient(t *testing.T) {
	registry, desc := runtime.NewRegistry(nil), &runtime.ServiceDesc{Name: "a.A", Key: "a", Extension: Methods{"/a.A/Do"}}
	server := registry.NewServer(grpc.NewServer())
	server.Publish(desc)
	errs := map[string]error{"Announce": server.Announce(t.Context(), "127.0.0.1:1")}
	_, errs["NewClient"] = registry.NewClient(desc)
	_, errs["Follow"] = registry.Follow(desc, func() {})
	for name, err := range errs {
		if err == nil || !strings.Contains(err.Error(), "nil etcd client") {
			t.Errorf("%s returned the error %v, want one with the nil etcd client", name, err)
		}
	}
}

// An entry that cannot stand for election is refused when it is announced.
func TestMethods_RefuseEntries(t *testing.T) {
	for want, e := range map[string]registrar.Entry{
		"set a shorter one":     {Layouts: []endpoint.Layout{endpoint.EndpointJSON}, Endpoint: endpoint.Endpoint{Instance: strings.Repeat("a", candidate.MaxInstance+1)}},
		"leave out the id or a": {Layouts: []endpoint.Layout{endpoint.EndpointJSON, endpoint.LeaseSuffix}, Endpoint: endpoint.Endpoint{Instance: "a", Addr: "10.0.0.1:1"}},
	} {
		if c, err := election.Of(nil, e, nil); c != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the companion is %v and the error %v, want no companion and an error with %q", c, err, want)
		}
	}
}
