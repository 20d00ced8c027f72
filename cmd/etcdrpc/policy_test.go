package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// echoMetadata is the metadata of the instances. explained are policies, each
// with the lane of the calls.
var (
	echoMetadata = []string{
		`"version":"v1","zone":"z1","weight":"3"`, `"version":"v1","zone":"z2"`, `"version":"v2","zone":"z1","weight":"1"`,
		`"version":"v2","zone":"z2","weight":"5","lane":"pr-1"`, `"version":"v3","zone":"z1","lane":"pr-1"`,
		`"version":"v1","zone":"z2","lane":"pr-2"`, `"version":"v3","weight":"2"`, `"zone":"z1","lane":"bad lane"`,
	}

	explained = []struct{ fields, lane string }{
		{`"childPolicy":[{"etcd_weighted":{}}],"drain":["2","3"]`, ""},
		{`"preferZone":true,"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":3}]`, ""},
		{`"split":[{"match":{"version":"v9"},"weight":1},{"match":{"zone":"z2"},"weight":0}],"route":[{"label":"lane"}]`, "pr-1"},
		{`"minHealthyPercent":50,"drain":["0","1","2","6","7"]`, ""},
		{`"route":[{"lane":"pr-1","match":{"version":"v3"},"strict":true},{"label":"lane"}],"drain":["3","5"]`, "pr-2"},
		{`"route":[{"lane":"pr-1","match":{"version":"v3"},"strict":true},{"label":"lane"}],"drain":["3","5"]`, "pr-1"},
		{`"route":[{"label":"lane","strict":true}]`, "pr-9"},
	}
)

// TestExplain_RealCalls compares explained shares with the shares of real calls
// of a client in zone z1.
func TestExplain_RealCalls(t *testing.T) {
	t.Parallel()
	const calls, tolerance = 200, 13.0 // percent

	etcd := etcdtest.Start(t)
	for id, metadata := range echoMetadata {
		addr := serveUntilEnd(t, grpc.NewServer(grpc.UnknownServiceHandler(func(
			_ any,
			stream grpc.ServerStream,
		) error {
			if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != nil {
				return err
			}

			return stream.SendMsg(wrapperspb.String(strconv.Itoa(id)))
		})))

		putKey(t, etcd, fmt.Sprint("acme/echo/", id),
			fmt.Sprintf(`{"Addr":%q,"Metadata":{%s}}`, addr, metadata))
	}

	registry := runtime.NewRegistry(etcd.Client(t), runtime.WithZone("z1"),
		runtime.WithLogger(slog.New(slog.DiscardHandler)))
	defer registry.Close(t.Context()) // an error is harmless: the leases expire

	conn, err := registry.NewClient(&runtime.ServiceDesc{
		Name:      "acme.Echo",
		Key:       "acme/echo",
		Authority: "acme.echo",
	}, grpc.WithTransportCredentials(insecure.NewCredentials()))

	must(t, err)

	defer conn.Close()

	shares := func(lane string) map[string]float64 {
		ctx := t.Context()
		measured := make(map[string]float64)

		if lane != "" {
			ctx = runtime.WithLane(ctx, lane)
		}

		for range calls {
			reply := new(wrapperspb.StringValue)
			if conn.Invoke(ctx, "/acme.Echo/Say", wrapperspb.String(""), reply) == nil {
				measured[reply.GetValue()] += 100.0 / calls
			}
		}

		return measured
	}
	for _, tt := range explained {
		putKey(t, etcd, "_grpc_config/acme/echo",
			`{"loadBalancingConfig":[{"etcd":{`+tt.fields+`}}]}`)
		var x struct{ Instances []inventory.JSON }

		out, errs, _ := executed(t, newApp(), at(etcd, "policy", "explain", "acme/echo", "--zone",
			"z1", "--lane", tt.lane, "-o", "json")...)
		if err := json.Unmarshal([]byte(out), &x); err != nil {
			t.Fatal(tt.fields, err, errs)
		}

		measured := shares(tt.lane)
		far := func(i inventory.JSON) bool {
			return math.Abs(measured[i.Instance]-*i.Share) > tolerance
		}
		for deadline := time.Now().Add(soon); slices.ContainsFunc(
			x.Instances, far); measured = shares(tt.lane) {
			if time.Now().After(deadline) {
				t.Fatalf("%s in lane %q: measured shares %v, explained shares %+v", tt.fields,
					tt.lane, measured, x.Instances)
			}
		}
	}
}
