package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// pickOfTests is a config whose picks are looked at.
type pickOfTests struct {
	name   string
	config string
	ctx    func(context.Context) context.Context // of the calls; may be nil
	zone   string                                // the client's
	down   string                                // the zone whose endpoints are not ready
	starts bool                                  // the endpoints have just started
}

const (
	laneConfig = `"route":[{"lane":"red","match":{"version":"v1"}}]`
	slowConfig = `"slowStart":{"window":"3600s"}`
	peakConfig = `"childPolicy":[{"etcd_peak_ewma":{}}]`
)

func inLane(ctx context.Context) context.Context { return calloptions.WithLane(ctx, "red") }

// picksOfTests are each option alone, and all of them.
var picksOfTests = []pickOfTests{
	{name: "round_robin", config: `{}`},
	{name: "split", config: `{"split":[{"match":{"version":"v0"},"weight":5},{"match":{"version":"v1"},"weight":45},{"match":{"version":"v2"},"weight":50}]}`},
	{name: "a zone of which half is ready", config: `{"preferZone":true,"zoneMinPercent":80}`, zone: "z1", down: "z1"},
	{name: "subset", config: `{"subset":20}`},
	{name: "a lane", config: `{` + laneConfig + `}`, ctx: inLane},
	{name: "no lane", config: `{` + laneConfig + `}`},
	{name: "a bound", config: `{"maxConcurrentRequests":100}`},
	{name: "slow start", config: `{` + slowConfig + `}`, starts: true},
	{name: "ring_hash", config: `{"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}`},
	{name: "weighted", config: `{"childPolicy":[{"etcd_weighted":{}}]}`},
	{name: "least_request, a bound", config: `{"maxConcurrentRequests":100,"childPolicy":[{"least_request_experimental":{}}]}`},
	{name: "peak_ewma", config: `{` + peakConfig + `}`},
	{name: "peak_ewma, slow start", config: `{` + slowConfig + `,` + peakConfig + `}`, starts: true},
	{name: "all", config: `{"preferZone":true,"zoneMinPercent":80,"subset":20,"maxConcurrentRequests":100,` + laneConfig + `,` + slowConfig + `,` + peakConfig + `}`,
		ctx: inLane, zone: "z1", down: "z1", starts: true},
}

// picker returns the policy's picker for 100 endpoints, and a call to pick for. Its context is as deep as that of a call
// with a deadline and metadata.
func (c *pickOfTests) picker(tb testing.TB) (balancer.Picker, balancer.PickInfo) {
	tb.Helper()
	p, cc := newTestPolicy(tb)
	parsed, err := parseConfig(json.RawMessage(c.config))
	if err != nil {
		tb.Fatal(err)
	}
	fleet := make([]resolver.Endpoint, 100)
	for i := range fleet {
		e := *attr.Endpoint(bigEndpoint(i, ""))
		e.Metadata = nil // all serve the same methods
		if c.starts {
			e = e.WithStarted(time.Now())
		}
		if fleet[i] = attr.New(&e, new(attr.Storage)); e.Zone == c.down && i%8 < 4 {
			cc.down[e.Addr] = errors.New("down")
		}
	}
	_ = hand(p, parsed, &attr.State{Endpoints: fleet, Client: &attr.Client{Zone: c.zone, Seed: seedOfTests}}) // what is down
	settle(p, cc)
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "k", "v"), time.Hour)
	tb.Cleanup(cancel)
	if c.ctx != nil {
		ctx = c.ctx(ctx)
	}
	info := balancer.PickInfo{Ctx: ctx, FullMethodName: "/helloworld.Greeter/SayHello"}
	_, _ = cc.state.Picker.Pick(info) // asks for its lane
	settle(p, cc)
	return cc.state.Picker, info
}

// pick picks for a call that ends at once.
func pick(tb testing.TB, p balancer.Picker, info balancer.PickInfo) {
	result, err := p.Pick(info)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	if result.Done != nil {
		result.Done(balancer.DoneInfo{BytesReceived: true})
	}
}

// BenchmarkPick times a pick and the end of its call, for each option of the policy.
func BenchmarkPick(b *testing.B) {
	for _, c := range picksOfTests {
		b.Run(c.name, func(b *testing.B) {
			p, info := c.picker(b)
			b.ReportAllocs()
			for b.Loop() {
				pick(b, p, info)
			}
		})
	}
}

// TestPickAllocatesNothing pins what the benchmark shows.
func TestPickAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("pools lose some records of calls")
	}
	for _, c := range picksOfTests {
		p, info := c.picker(t)
		for _, info.Ctx = range []context.Context{info.Ctx, calloptions.WithAffinity(info.Ctx, "k"), calloptions.WithLane(info.Ctx, "green")} {
			if c.name == "ring_hash" && calloptions.Of(info.Ctx).Affinity.Text == "" {
				continue // request metadata is copied where there is some
			}
			if n := testing.AllocsPerRun(100, func() { pick(t, p, info) }); n > 0 {
				t.Errorf("%s: %v allocations a pick", c.name, n)
			}
		}
	}
}
