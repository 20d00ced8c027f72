package main

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/policyedit"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// echoMetadata is that of the instances of acme.Echo, by their ids.
var echoMetadata = map[string]string{
	"a": `"version":"v1","zone":"z1","weight":"3"`,
	"b": `"version":"v1","zone":"z2"`,
	"c": `"version":"v2","zone":"z1","weight":"1"`,
	"d": `"version":"v2","zone":"z2","weight":"5","lane":"pr-1"`,
	"e": `"version":"v3","zone":"z1","lane":"pr-1"`,
	"f": `"version":"v1","zone":"z2","lane":"pr-2"`,
	"g": `"version":"v3","weight":"2"`,
	"h": `"zone":"z1","lane":"bad lane"`,
}

// serveEcho registers an instance that answers calls with its id.
func serveEcho(t *testing.T, etcd *etcdtest.Cluster, id string) {
	t.Helper()
	addr := serveUntilEnd(t, grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			return err
		}
		return stream.SendMsg(wrapperspb.String(id))
	})))
	putKey(t, etcd, "acme/echo/"+id, fmt.Sprintf(`{"Addr":%q,"Metadata":{%s}}`, addr, echoMetadata[id]))
}

// randomPolicy returns a live config.
func randomPolicy(r *rand.Rand) string {
	fields := []string{`"childPolicy":[{"round_robin":{}}]`}
	if r.IntN(2) == 0 {
		fields[0] = `"childPolicy":[{"etcd_weighted":{}}]`
	}
	add := func(oneIn int, of ...string) {
		if r.IntN(oneIn) == 0 {
			fields = append(fields, of[r.IntN(len(of))])
		}
	}
	add(2, `"drain":["a"]`, `"drain":["c","d"]`, `"drain":["d","e","f"]`, `"drain":["a","b","c","g"]`)
	add(2, `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":3}]`,
		`"split":[{"match":{"version":"v2"},"weight":0},{"match":{"version":"v1"},"weight":1}]`,
		`"split":[{"match":{"version":"v9"},"weight":1},{"match":{"zone":"z2"},"weight":0}]`,
		`"split":[{"match":{"instance":"a"},"weight":1},{"match":{"version":""},"weight":1}]`)
	add(2, `"preferZone":true`)
	add(5, `"minHealthyPercent":50`)
	add(2, `"route":[{"label":"lane"}]`, `"route":[{"label":"lane","strict":true}]`, `"route":[{"label":"version"}]`,
		`"route":[{"lane":"pr-1","match":{"version":"v3"},"strict":true},{"label":"lane"}]`, `"route":[{"lane":"pr-2","match":{"zone":"z2"}}]`)
	return `{"loadBalancingConfig":[{"etcd":{` + strings.Join(fields, ",") + `}}]}`
}

// TestExplain_RealCalls compares the shares that are explained with those of real calls, under random live configs.
func TestExplain_RealCalls(t *testing.T) {
	night(t)
	t.Parallel()
	const rounds, calls, near = 16, 240, 12.0
	r := rand.New(rand.NewPCG(1, 8))
	etcd := etcdtest.Start(t)
	for _, id := range slices.Sorted(maps.Keys(echoMetadata)) {
		serveEcho(t, etcd, id)
	}
	cfg := settings{endpoints: etcd.Endpoints(), dialTimeout: soon, commandTimeout: soon}
	store, err := cfg.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	conns := make(map[string]*grpc.ClientConn)
	for _, zone := range []string{"", "z1", "z9"} {
		registry := runtime.NewRegistry(etcd.Client(t), runtime.WithZone(zone), runtime.WithLogger(slog.New(slog.DiscardHandler)))
		t.Cleanup(func() { _ = registry.Close(t.Context()) })
		desc := &runtime.ServiceDesc{Name: "acme.Echo", Key: "acme/echo", Authority: "acme.echo"}
		if conns[zone], err = registry.NewClient(desc, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[zone].Close() })
	}
	answers := func(from policyedit.Caller) map[string]float64 {
		ctx, by := t.Context(), make(map[string]float64)
		if from.Lane != "" {
			ctx = runtime.WithLane(ctx, from.Lane)
		}
		for range calls {
			reply := new(wrapperspb.StringValue)
			if conns[from.Zone].Invoke(ctx, "/acme.Echo/Say", wrapperspb.String(""), reply) == nil {
				by[reply.GetValue()] += 100.0 / calls
			}
		}
		return by
	}
	for range rounds {
		config := randomPolicy(r)
		putKey(t, etcd, "_grpc_config/acme/echo", config)
		read, err := store.At(t.Context(), "acme/echo")
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range callersOf(slices.Sorted(maps.Keys(conns))) {
			x, err := policyedit.Explain(read.Services[0], from)
			if err != nil {
				t.Fatalf("%s: %v", config, err)
			}
			by := answers(from)
			far := func(i inventory.Instance) bool {
				return by[i.Instance] < i.Share.Percent-near || by[i.Instance] > i.Share.Percent+near
			}
			for deadline := time.Now().Add(soon); slices.ContainsFunc(x.Instances, far); by = answers(from) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: %+v: the answers are %v, and what is explained %+v", config, from, by, x.Instances)
				}
			}
		}
	}
}

// callersOf returns all kinds of calls.
func callersOf(zones []string) (all []policyedit.Caller) {
	for _, zone := range zones {
		for _, lane := range []string{"", "pr-1", "pr-2", "pr-9"} {
			all = append(all, policyedit.Caller{Zone: zone, Lane: lane})
		}
	}
	return all
}
