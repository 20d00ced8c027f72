package balancer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// bench is a pool whose events are delivered when told to.
type bench struct {
	t      *testing.T
	cc     *fakeConn
	pool   *pool
	policy *policy
}

func newBench(t *testing.T) *bench {
	p, cc := newPolicy(t)
	return &bench{t, cc, p.pool, p}
}

// child returns an owner of SubConns.
func (b *bench) child() *child {
	return &child{ClientConn: b.cc, policy: b.policy, leaf: &leaf{}, subConns: make(map[string][]*subConn), balancer: &scriptedBalancer{&scripted{}, b.cc}}
}

// heard is a SubConn and what its listener heard.
type heard struct {
	*subConn
	states []string
}

func (b *bench) subConn(owner *child, addrs ...resolver.Address) *heard {
	b.t.Helper()
	h := &heard{}
	w, err := b.pool.newSubConn(owner, addrs, balancer.NewSubConnOptions{StateListener: func(s balancer.SubConnState) {
		text := s.ConnectivityState.String()
		if s.ConnectionError != nil {
			text += " " + s.ConnectionError.Error()
		}
		h.states = append(h.states, text)
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	h.subConn = w
	return h
}

func (b *bench) want(h *heard, what string, states ...string) {
	b.t.Helper()
	settle(b.policy, b.cc)
	if !slices.Equal(h.states, states) {
		b.t.Errorf("%s: heard %q, want %q", what, h.states, states)
	}
	h.states = nil
}

func at(addr string) resolver.Address { return resolver.Address{Addr: addr} }

func TestSubConnsOfOneAddressAreOne(t *testing.T) {
	b := newBench(t)
	first, second := b.subConn(b.child(), at("a:1")), b.subConn(b.child(), at("a:1"))
	if len(b.cc.made) != 1 || first.real() != second.real() {
		t.Fatalf("%d SubConns are made", len(b.cc.made))
	}
	first.Connect()
	b.want(first, "the one that connects", "CONNECTING", "READY")
	b.want(second, "the one that does not")
	second.Connect()
	second.Connect()
	b.want(second, "a late one", "CONNECTING", "READY")

	real := b.cc.made[0]
	real.set(connectivity.Idle, nil)
	b.want(first, "idle", "IDLE")
	b.want(second, "idle", "IDLE")
	first.Connect()
	b.want(first, "the one that connects again", "CONNECTING", "READY")
	b.want(second, "the one that does not", []string{}...)

	b.cc.down["a:1"] = errors.New("refused")
	real.set(connectivity.Idle, nil)
	b.want(first, "idle", "IDLE")
	first.Connect()
	b.want(first, "down", "CONNECTING", "TRANSIENT_FAILURE refused")
	second.Connect()
	b.want(second, "down for a late one", "CONNECTING", "TRANSIENT_FAILURE refused")
	real.set(connectivity.Connecting, nil)
	third := b.subConn(b.child(), at("a:1"))
	settle(b.policy, b.cc)
	third.Connect()
	b.want(third, "while it connects", "CONNECTING")

	first.Shutdown()
	first.Shutdown()
	first.Connect()
	b.want(first, "shut down", "CONNECTING", "SHUTDOWN")
	if real.shutdowns > 0 {
		t.Error("it is shut down while others use it")
	}
	second.Shutdown()
	third.Shutdown()
	settle(b.policy, b.cc)
	if real.shutdowns != 1 {
		t.Errorf("it is shut down %d times", real.shutdowns)
	}
}

func TestUnusedSubConnsLinger(t *testing.T) {
	b := newBench(t)
	_ = hand(b.policy, nil, &attr.State{Client: &attr.Client{TargetsOnly: true}, Endpoints: ends("a")})
	owner := b.child()
	stays, goes := b.subConn(owner, at("a:1")), b.subConn(owner, at("b:1"))
	stays.Shutdown()
	goes.Shutdown()
	settle(b.policy, b.cc)
	if got := addrs(b.cc.open()); got != "a" {
		t.Errorf("open: %s, want what the resolver has", got)
	}
	if b.policy.sweeping == nil || time.Until(b.policy.sweepAt) > linger {
		t.Error("no sweep is due")
	}
	b.policy.pool.sweep(b.policy.resolved, time.Now().Add(linger/2))
	again := b.subConn(owner, at("a:1"))
	b.policy.pool.resolved()
	b.policy.pool.sweep(b.policy.resolved, time.Now().Add(2*linger))
	if len(b.cc.made) != 2 || b.cc.made[0].shutdowns > 0 {
		t.Error("it is not used again")
	}
	again.Shutdown()
	settle(b.policy, b.cc)
	after, next := b.policy.pool.sweep(b.policy.resolved, time.Now().Add(2*linger))
	if len(after) != 1 || !next.IsZero() {
		t.Errorf("after lingering: %d are shut down, the next sweep is at %v", len(after), next)
	}
}

func TestHealthIsAskedForOnce(t *testing.T) {
	b := newBench(t)
	first, second := b.subConn(b.child(), at("a:1")), b.subConn(b.child(), at("a:1"))
	var health []string
	listen := func(h *heard, name string) {
		h.RegisterHealthListener(func(s balancer.SubConnState) { health = append(health, name+" "+s.ConnectivityState.String()) })
	}
	want := func(what string, states ...string) {
		t.Helper()
		settle(b.policy, b.cc)
		if !slices.Equal(health, states) {
			t.Errorf("%s: heard %q, want %q", what, health, states)
		}
		health = nil
	}
	listen(first, "first")
	want("before it is ready")
	first.Connect()
	second.Connect()
	settle(b.policy, b.cc)
	listen(first, "first")
	want("when it is ready", "first READY")
	listen(second, "second")
	want("a late one", "second READY")
	real := b.cc.made[0]
	if real.registers != 1 {
		t.Errorf("%d registrations", real.registers)
	}
	real.health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure})
	want("both", "first TRANSIENT_FAILURE", "second TRANSIENT_FAILURE")
	second.RegisterHealthListener(nil)
	real.health(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	want("the one that still listens", "first READY")
	b.policy.calls.Lock()
	real.health(balancer.SubConnState{ConnectivityState: connectivity.Connecting})
	listen(first, "again")
	b.policy.calls.Unlock()
	want("another listener meanwhile", "again CONNECTING")
	real.set(connectivity.Idle, nil)
	settle(b.policy, b.cc)
	first.Connect()
	settle(b.policy, b.cc)
	want("ready again")
	listen(first, "anew")
	want("a new registration", "anew READY")
	if real.registers != 2 {
		t.Errorf("%d registrations", real.registers)
	}
}

func TestSubConnsThatArePrivate(t *testing.T) {
	b := newBench(t)
	owner := b.child()
	b.subConn(owner, at("a:1"))
	for what, addr := range map[string]resolver.Address{
		"of another server name": {Addr: "a:1", ServerName: "x"},
		"of attributes":          {Addr: "a:1", Attributes: attributes.New("k", "v")},
	} {
		before := len(b.cc.made)
		b.subConn(owner, addr)
		if len(b.cc.made) != before+1 {
			t.Errorf("a SubConn %s is shared", what)
		}
	}
	several := b.subConn(owner, at("a:1"), at("b:1"))
	several.UpdateAddresses([]resolver.Address{at("b:1"), at("c:1")})
	if got := several.real().(*fakeSubConn).addrs; len(got) != 2 || got[1].Addr != "c:1" || len(owner.subConns["b:1"]) != 1 {
		t.Errorf("its addresses are %v", got)
	}

	moves, stays := b.subConn(owner, at("m:1")), b.subConn(b.child(), at("m:1"))
	moves.Connect()
	stays.Connect()
	settle(b.policy, b.cc)
	moves.states, stays.states = nil, nil
	(&child{}).UpdateAddresses(moves.subConn, []resolver.Address{at("n:1")})
	b.want(moves, "one whose addresses change", "CONNECTING", "READY")
	b.want(stays, "one that shared it")
	if addr := moves.real().(*fakeSubConn).addrs[0].Addr; addr != "n:1" {
		t.Errorf("it is at %s", addr)
	}
	(&child{}).RemoveSubConn(moves.subConn)
	b.want(moves, "removed", "SHUTDOWN")
	moves.UpdateAddresses([]resolver.Address{at("o:1")})
	b.want(moves, "and updated")
	b.policy.Close()
	if _, err := b.pool.newSubConn(nil, []resolver.Address{at("a:1")}, balancer.NewSubConnOptions{}); err == nil {
		t.Error("a closed pool makes SubConns")
	}
}

func TestChildrenMakeSubConnsOfTheirOwnAddressesAlone(t *testing.T) {
	s := script(t)
	p, cc := newPolicy(t)
	_ = hand(p, s.config(t), &attr.State{Endpoints: ends("a")})
	try := func(addr string, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
		return s.conns[0].NewSubConn([]resolver.Address{at(addr)}, opts)
	}
	sc, err := try("a:1", balancer.NewSubConnOptions{}) // without a listener, as of old
	if err != nil {
		t.Fatal(err)
	}
	sc.Connect()
	settle(p, cc)
	if s.count("CONNECTING") != 1 || s.count("READY") != 1 {
		t.Errorf("it heard %q", s.calls)
	}
	if _, err := try("b:1", balancer.NewSubConnOptions{}); err == nil {
		t.Error("of an address that is not its own")
	}
	s.conns[0].UpdateState(balancer.State{ConnectivityState: connectivity.Ready})
	settle(p, cc)
	_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: ends("a")})
	settle(p, cc)
	if _, err := try("a:1", balancer.NewSubConnOptions{}); err == nil {
		t.Error("after it is closed")
	}
}

// producing is a SubConn that builds producers.
type producing struct {
	balancer.SubConn
	builders map[balancer.ProducerBuilder]int
	done     int
}

func (p *producing) GetOrBuildProducer(b balancer.ProducerBuilder) (balancer.Producer, func()) {
	p.builders[b]++
	producer, done := b.Build(nil)
	return producer, func() { p.done++; done() }
}

type producerBuilder struct{ built *int }

func (b producerBuilder) Build(any) (balancer.Producer, func()) { *b.built++; return b, func() {} }

func TestProducersAreEachPolicysOwn(t *testing.T) {
	b := newBench(t)
	one, other := b.child(), b.child()
	first, second := b.subConn(one, at("a:1")), b.subConn(other, at("a:1"))
	real := &producing{builders: make(map[balancer.ProducerBuilder]int)}
	first.at.Load().conn = real
	built := 0
	builder := producerBuilder{&built}
	first.GetOrBuildProducer(builder)
	second.GetOrBuildProducer(builder)
	first.GetOrBuildProducer(builder)
	if len(real.builders) != 2 || real.builders[ownProducer{builder, one}] != 2 {
		t.Errorf("gRPC was asked for %v", real.builders)
	}
	first.at.Load().conn = b.cc.made[0]
	first.Shutdown()
	settle(b.policy, b.cc)
	if real.done != 2 {
		t.Errorf("%d producers are given up", real.done)
	}
}

func TestClaim(t *testing.T) {
	dial := func(opts ...grpc.DialOption) {
		t.Helper()
		conn, err := grpc.NewClient("passthrough:///x", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	base := `{"loadBalancingConfig":[{"etcd":{"drain":["a"]}}],"methodConfig":[{"name":[{}],"timeout":"2s"}]}`
	config, effective := Claim(base)
	if !strings.Contains(config, `"timeout":"2s"`) || !strings.Contains(config, `"drain":["a"]`) {
		t.Errorf("the config became %s", config)
	}
	dial(grpc.WithDefaultServiceConfig(config))
	for range 2 {
		if !effective() {
			t.Error("a config in force is said not to be")
		}
	}
	config, effective = Claim(base)
	dial(grpc.WithDefaultServiceConfig(config), grpc.WithDefaultServiceConfig(`{}`))
	if effective() {
		t.Error("a config that was replaced is said to be in force")
	}
	if _, err := serviceconfig.ParseLive(config); err == nil {
		t.Error("a live config may claim")
	}
	for _, other := range []string{`{}`, `{`, `{"loadBalancingConfig":[{"round_robin":{}}]}`, `{"loadBalancingConfig":[]}`} {
		if config, effective := Claim(other); config != other || effective() {
			t.Errorf("%s became %s", other, config)
		}
	}
	if n := len(claims.parsed); n > 0 {
		t.Errorf("%d claims are remembered", n)
	}
	if c, err := parseConfig(json.RawMessage(fmt.Sprintf(`{"claim":%d}`, uint64(1<<40)))); err != nil || c.Claim != 1<<40 || len(claims.parsed) > 0 {
		t.Errorf("a claim of nobody: %v", err)
	}
}
