package scenarios

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-kratos/kratos/v2/selector"
	"github.com/go-kratos/kratos/v2/selector/p2c"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

const (
	peerKratos     = "kratos"
	peerRoundRobin = "round_robin"
)

// pickers are those whose choice of a backend is compared, each by the policy that its users get.
var pickers = []string{peerOurs, peerGoZero, peerKratos, peerRoundRobin}

var policyOf = map[string]string{
	peerOurs: "etcd_peak_ewma", peerGoZero: "p2c_ewma", peerKratos: "kratos_p2c", peerRoundRobin: "round_robin",
}

// What the scenario slow does.
const (
	slowBackends = 5
	slowCallers  = 200
	slowUsual    = 40 * time.Millisecond
	slowSlow     = 10 * slowUsual
	slowWarm     = 500 * time.Millisecond
	slowMeasured = time.Second
)

var slowScenario = &Scenario{
	run: runSlow,
	Scenario: report.Scenario{
		Name: "slow", Title: "one of 5 backends is ten times slower",
		About: "200 callers call for 1 s, after half a second of it. One backend takes 400 ms and each other 40 ms. This project picks by etcd_peak_ewma, go-zero by its p2c_ewma, kratos by its p2c.",
		Peers: pickers, Base: peerGoZero,
		Metrics: []metric{
			{Name: "p50 ms"},
			{Name: "p99 ms", Ratio: true, Plot: true},
			{Name: "calls to the slow one, %"},
		},
		Targets: []target{
			{Case: "5 backends", Metric: "p99 ms", Limit: 1, Of: []string{peerGoZero}},
			{Case: "5 backends", Metric: "p99 ms", Limit: float64(slowSlow/time.Millisecond) / 2}, // half of round robin's
		},
	},
}

// runSlow compares how policies bear one backend that is ten times slower than the others.
func runSlow(ctx context.Context, b *bench) error {
	return b.measure(ctx, fmt.Sprint(slowBackends, " backends"), pickers, func(peer string) (map[string]float64, error) {
		p, err := b.spawn(params{Role: "slow", Peer: peer})
		if err != nil {
			return nil, err
		}
		defer p.end()
		return p.values(patience)
	})
}

func childSlow(c *child) (map[string]float64, error) {
	balancer.Register(base.NewBalancerBuilder(policyOf[peerKratos], kratosBuilder{}, base.Config{}))
	backends, err := serveUnevenly()
	if err != nil {
		return nil, err
	}
	return backends.measure(c.Peer)
}

// uneven is backends of which the first is slow.
type uneven struct {
	addrs []string
	calls []*atomic.Int64 // that each has answered
}

// lasting answers each call after a while.
type lasting struct {
	serving
	takes time.Duration
	calls *atomic.Int64
}

func (l lasting) Check(ctx context.Context, in *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	l.calls.Add(1)
	time.Sleep(l.takes)
	return l.serving.Check(ctx, in)
}

func serveUnevenly() (*uneven, error) {
	u := &uneven{}
	for i := range slowBackends {
		l := lasting{takes: slowUsual, calls: new(atomic.Int64)}
		if i == 0 {
			l.takes = slowSlow
		}
		addr, err := serveAt("127.0.0.1:0", l)
		if err != nil {
			return nil, err
		}
		u.addrs, u.calls = append(u.addrs, addr), append(u.calls, l.calls)
	}
	return u, nil
}

// measure has callers call by the policy of a peer.
func (u *uneven) measure(peer string) (map[string]float64, error) {
	m := manual.NewBuilderWithScheme("static")
	var state resolver.State
	for _, addr := range u.addrs {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: addr}) // which policies of gRPC's package base read
	}
	m.InitialState(state)
	conn, err := grpc.NewClient("static:///"+serviceKey, plaintext, grpc.WithResolvers(m),
		grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, policyOf[peer])))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is under way
	if _, err := callAll(conn, slowWarm); err != nil {
		return nil, err
	}
	before := u.answered()
	took, err := callAll(conn, slowMeasured)
	if err != nil {
		return nil, err
	}
	all, slow := 0.0, 0.0
	for i, n := range u.answered() {
		all += float64(n - before[i])
		if i == 0 {
			slow = float64(n - before[i])
		}
	}
	return map[string]float64{
		"p50 ms": results.Percentile(took, 50), "p99 ms": results.Percentile(took, 99),
		"calls to the slow one, %": slow / all * 100,
	}, nil
}

func (u *uneven) answered() []int64 {
	var all []int64
	for _, n := range u.calls {
		all = append(all, n.Load())
	}
	return all
}

// callAll has the callers call for a while, and returns how many milliseconds each call took, sorted.
func callAll(conn *grpc.ClientConn, lasts time.Duration) ([]float64, error) {
	var (
		callers sync.WaitGroup
		mu      sync.Mutex
		took    []float64
		failed  error
	)
	end := time.Now().Add(lasts)
	for range slowCallers {
		callers.Go(func() {
			var own []float64
			var err error
			for err == nil && time.Now().Before(end) {
				began := time.Now()
				err = check(context.Background(), conn)
				own = append(own, ms(time.Since(began)))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
			if err != nil {
				failed = err
			}
		})
	}
	callers.Wait()
	slices.Sort(took)
	return took, failed
}

// kratosBuilder makes pickers of kratos' p2c, as the balancer of its gRPC transport does.
type kratosBuilder struct{}

func (kratosBuilder) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	var nodes []selector.Node
	for conn, of := range info.ReadySCs {
		nodes = append(nodes, kratosNode{selector.NewNode("grpc", of.Address.Addr, nil), conn})
	}
	p := kratosPicker{p2c.New()}
	p.Apply(nodes)
	return p
}

type kratosNode struct {
	selector.Node
	conn balancer.SubConn
}

type kratosPicker struct{ selector.Selector }

func (p kratosPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	node, done, err := p.Select(info.Ctx)
	if err != nil {
		return balancer.PickResult{}, err
	}
	return balancer.PickResult{SubConn: node.(kratosNode).conn, Done: func(d balancer.DoneInfo) {
		done(info.Ctx, selector.DoneInfo{Err: d.Err, BytesSent: d.BytesSent, BytesReceived: d.BytesReceived})
	}}, nil
}
