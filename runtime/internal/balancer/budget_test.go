package balancer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/descriptors"
)

// dead returns servers that nobody runs.
func dead(n int) []*server {
	var all []*server
	for i := range n {
		s := &server{Endpoint: endpoint.Endpoint{Instance: fmt.Sprintf("dead%04d", i), Addr: fmt.Sprintf("127.1.%d.%d:1", i/250, 1+i%250)}}
		all = append(all, s)
	}
	return all
}

// ring has calls tied to keys.
const ring = `"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]`

var errNoneFree = errors.New("none is free")

// budget returns a budget, and how often it was said to be reached.
func budget(limit int) (*descriptors.Budget, *atomic.Int64) {
	reached := new(atomic.Int64)
	return descriptors.NewBudget(limit, errNoneFree, func(int) { reached.Add(1) }), reached
}

// boundTo returns a policy that may have so many connections, and a function that hands it endpoints, and returns which are
// connected to.
func boundTo(t *testing.T, limit int) (*policy, *fakeConn, func(config string, fleet ...string) string) {
	p, cc := newPolicy(t)
	shared, _ := budget(limit)
	client := &attr.Client{Connections: shared}
	return p, cc, func(config string, fleet ...string) string {
		_ = hand(p, mustConfig(t, "{"+config+"}"), &attr.State{Client: client, Endpoints: ends(fleet...)})
		settle(p, cc)
		return cc.connectedTo()
	}
}

func (c *fakeConn) connectedTo() (all string) {
	for _, s := range c.open() {
		s.mu.Lock()
		if s.state == connectivity.Ready || s.state == connectivity.Connecting {
			all += strings.TrimSuffix(s.addrs[0].Addr, ":1")
		}
		s.mu.Unlock()
	}
	return all
}

func sorted(all string) string {
	each := []byte(all)
	slices.Sort(each)
	return string(each)
}

// last returns the last SubConn that was made to an address.
func (c *fakeConn) last(addr string) (found *fakeSubConn) {
	for _, s := range c.made {
		if s.addrs[0].Addr == addr {
			found = s
		}
	}
	return found
}

func TestS4_WhatIsMadeAgainKeepsItsPlace(t *testing.T) {
	p, cc, update := boundTo(t, 1)
	if got := update("", "a", "b"); got != "a" {
		t.Fatalf("%s are connected to", got)
	}
	a := cc.last("a:1")
	for _, tt := range []struct {
		what, want string
		state      connectivity.State
	}{
		{"its connection ends", "a", connectivity.Idle},
		{"it fails, and the next has its permit", "b", connectivity.TransientFailure},
		{"it has lost its permit", "b", connectivity.Idle},
	} {
		a.set(tt.state, errors.New("refused"))
		settle(p, cc)
		if got := cc.connectedTo(); got != tt.want {
			t.Errorf("%s: %s are connected to, want %s", tt.what, got, tt.want)
		}
	}
	cc.last("b:1").set(connectivity.TransientFailure, errors.New("refused"))
	settle(p, cc)
	if got := cc.connectedTo(); got != "a" {
		t.Errorf("once the other fails: %s", got)
	}
	if n := len(cc.made); n != 2 {
		t.Errorf("%d SubConns were made", n)
	}
}

func TestS4_WhatNothingWantsMakesRoom(t *testing.T) {
	_, cc, update := boundTo(t, 2)
	if got := update("", "a", "b"); got != "ab" {
		t.Fatalf("%s are connected to", got)
	}
	if got := update(`"drain":["a"]`, "a", "b"); got != "ab" {
		t.Errorf("%s: what is drained does not linger", got)
	}
	if got := update(`"drain":["a"]`, "a", "b", "c"); got != "bc" || cc.last("a:1").shutdowns != 1 {
		t.Errorf("%s: what lingers is in the way", got)
	}
	if got := update(``, "a", "b", "c", "d"); got != "bc" {
		t.Errorf("%s", got)
	}
	if got := update(`"drain":["b","c"]`, "a", "b", "c", "d"); got != "ad" {
		t.Errorf("%s: what lingers is in the way of what waits already", got)
	}
	if got := update(``, "a", "d"); got != "ad" {
		t.Errorf("%s: what leaves is in the way", got)
	}
}

func TestS4_WhoLeavesNoLongerWaits(t *testing.T) {
	p, cc, update := boundTo(t, 1)
	update("", "a", "b", "c")
	update("", "a", "c")
	b := cc.last("b:1")
	cc.down["a:1"] = errors.New("gone")
	cc.last("a:1").set(connectivity.Idle, nil)
	settle(p, cc)
	if got := cc.connectedTo(); got != "c" || b.connects > 0 {
		t.Errorf("%s: what left is connected %d times", got, b.connects)
	}
	if got := update("", "a", "b"); got != "b" {
		t.Errorf("%s: what comes again is not", got)
	}
}

// TestS4_WhatIsCalledHasPlaces has fewer places than endpoints, where these are divided.
func TestS4_WhatIsCalledHasPlaces(t *testing.T) {
	for _, tt := range []struct{ name, config, fleet, want string }{
		{"lanes before the base", looseRed, "a v2 x,b v2 x,c v2 x,d v1 x,e v1 x", "da"},
		{"another zone before the client's", `"preferZone":true`, "a v1 y,b v1 y,c v1 x,d v1 x,e v1 x", "cd"},
		{"a large group before a small", byVersion, "a v1 x,b v1 x,c v1 x,d v2 x", "ad"},
		{"a large set of methods before a small", "", "a v1 x s.A/L,b v1 x s.A/L,c v1 x s.A/M", "ac"},
	} {
		p, cc := newPolicy(t)
		shared, _ := budget(2)
		_ = hand(p, mustConfig(t, "{"+tt.config+"}"), &attr.State{Client: &attr.Client{Connections: shared, Most: 16, Zone: "x"}, Endpoints: ends(strings.Split(tt.fleet, ",")...)})
		settle(p, cc)
		if got := cc.connectedTo(); got != tt.want {
			t.Errorf("%s: %s are connected to, want %s", tt.name, got, tt.want)
		}
		if _, err := cc.pick(t.Context(), "/s.A/M"); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestS4_EachLaneOfManyHasAPlace has so many endpoints that a connection may not use all.
func TestS4_EachLaneOfManyHasAPlace(t *testing.T) {
	p, cc := newPolicy(t)
	shared, _ := budget(2)
	client := &attr.Client{Connections: shared, Most: 4, Seed: maphash.MakeSeed()}
	_ = hand(p, mustConfig(t, "{"+strictRed+"}"), &attr.State{Client: client, Endpoints: ends(strings.Split("a v1,b v1,c v1,d v1,e v1,f v2,g v2", ",")...)})
	settle(p, cc)
	for _, lane := range []string{"", "red"} {
		if _, err := cc.pick(calloptions.WithLane(t.Context(), lane), "/s.A/M"); errors.Is(err, balancer.ErrNoSubConnAvailable) {
			settle(p, cc) // the call has asked for a view
		}
		if _, err := cc.pick(calloptions.WithLane(t.Context(), lane), "/s.A/M"); err != nil {
			t.Errorf("%s are connected to: a call in the lane %q: %v", cc.connectedTo(), lane, err)
		}
	}
}

// TestS4_AllThatIsConnectedToMayBeCalled has clients of which each may use all endpoints, in one group of several.
func TestS4_AllThatIsConnectedToMayBeCalled(t *testing.T) {
	fleet := ends(strings.Split("a v1,b v1,c v1,d v1,e v1,f v1,g v1,h v1,i v1,j v1,k v1,l v1,m v1,n v1,o v1,p v1", ",")...)
	for range 50 { // seeds
		p, cc := newPolicy(t)
		shared, _ := budget(2)
		_ = hand(p, mustConfig(t, "{"+byVersion+"}"), &attr.State{Client: &attr.Client{Connections: shared, Most: 16, Seed: maphash.MakeSeed()}, Endpoints: fleet})
		settle(p, cc)
		if _, err := cc.pick(t.Context(), "/s.A/M"); err != nil {
			t.Fatalf("%s are connected to: %v", cc.connectedTo(), err)
		}
	}
}

// TestS4_WhatIsGivenAPlaceIsWaitedFor has a subset take other endpoints while all places are taken.
func TestS4_WhatIsGivenAPlaceIsWaitedFor(t *testing.T) {
	specs := strings.Split("a,b,c,d,e,f,g,h", ",")
	for range 20 { // seeds
		p, cc := newPolicy(t)
		shared, _ := budget(2)
		client := &attr.Client{Connections: shared, Seed: maphash.MakeSeed()}
		config := mustConfig(t, `{"subset":2}`)
		_ = hand(p, config, &attr.State{Client: client, Endpoints: ends(specs[:2]...)})
		settle(p, cc)
		if _, err := cc.pick(t.Context(), "/s.A/M"); err != nil {
			t.Fatal(err)
		}
		cc.hangs = map[string]bool{"c:1": true, "d:1": true, "e:1": true, "f:1": true, "g:1": true, "h:1": true}
		_ = hand(p, config, &attr.State{Client: client, Endpoints: ends(specs...)})
		settle(p, cc)
		if _, err := cc.pick(t.Context(), "/s.A/M"); err != nil && !errors.Is(err, balancer.ErrNoSubConnAvailable) {
			t.Fatalf("while %s are connected to: %v", cc.connectedTo(), err)
		}
	}
}

// TestS4_WhatMadeRoomIsHeardNoMore has a connection come about just as it is closed, for another to have its place.
func TestS4_WhatMadeRoomIsHeardNoMore(t *testing.T) {
	p, cc, update := boundTo(t, 1)
	cc.hangs = map[string]bool{"a:1": true}
	if got := update("", "a", "b"); got != "a" {
		t.Fatalf("%s are connected to", got)
	}
	p.spawn = func(func()) {} // what is heard now waits for the update
	cc.last("a:1").set(connectivity.Ready, nil)
	cc.pump(nil)
	if got := update(`"drain":["a"]`, "a", "b"); got != "b" {
		t.Errorf("%s are connected to", got)
	}
	if got := update(`"drain":["b"]`, "a", "b"); got != "a" {
		t.Errorf("%s are connected to once it may be called again", got)
	}
}

// TestS4_WhatDoesNotServeMakesRoom has two places, and some of what has them not serve: calls come to go to what does, and what
// does not is looked at again in its turn.
func TestS4_WhatDoesNotServeMakesRoom(t *testing.T) {
	for _, tt := range []struct {
		name, config, fleet  string
		unwell, silent, down string   // which are
		named                string   // by a call; "": none
		want                 []string // what is connected to, at first and after each while
		serves               bool     // in the end
	}{
		{name: "all serve", fleet: "a,b,c,d", want: []string{"ab", "ab"}, serves: true},
		{name: "none does", fleet: "a,b,c", unwell: "abc", want: []string{"ab", "bc", "ac", "bc"}},
		{name: "one does not", fleet: "a,b,c,d", unwell: "a", want: []string{"ab", "bc", "bc"}, serves: true},
		{name: "two do not", fleet: "a,b,c,d", unwell: "ab", want: []string{"ab", "cd", "cd"}, serves: true},
		{name: "two do not tell", fleet: "a,b,c,d", silent: "ab", want: []string{"ab", "cd", "cd"}, serves: true},
		{name: "nobody waits", fleet: "a,b", unwell: "ab", want: []string{"ab", "ab"}},
		{name: "what waits is down", fleet: "a,b,c", unwell: "ab", down: "c", want: []string{"ab", "ab"}},
		{name: "calls name it", fleet: "a,b,c,d", unwell: "ab", named: "a", want: []string{"ab", "ac"}, serves: true},
		{name: "another zone does", config: `"preferZone":true`, fleet: "a - x,b - x,c - y,d - y", unwell: "ab", want: []string{"ab", "cd"}, serves: true},
	} {
		p, cc := newPolicy(t)
		now := time.Now()
		p.now = func() time.Time { return now }
		cc.unwell, cc.silent = make(map[string]error), make(map[string]bool)
		for i := range tt.unwell {
			cc.unwell[tt.unwell[i:i+1]+":1"] = errors.New("not serving")
		}
		for i := range tt.silent {
			cc.silent[tt.silent[i:i+1]+":1"] = true
		}
		for i := range tt.down {
			cc.down[tt.down[i:i+1]+":1"] = errors.New("refused")
		}
		shared, _ := budget(2)
		_ = hand(p, mustConfig(t, "{"+tt.config+"}"), &attr.State{Client: &attr.Client{Connections: shared, Zone: "x"}, Endpoints: ends(strings.Split(tt.fleet, ",")...)})
		settle(p, cc)
		if tt.named != "" {
			_, _ = cc.pick(calloptions.WithTarget(t.Context(), calloptions.Target{Instance: tt.named}), "/s.A/M")
			settle(p, cc)
		}
		for i, want := range tt.want {
			if got := sorted(cc.connectedTo()); got != want {
				t.Errorf("%s: after %d whiles %s are connected to, want %s", tt.name, i, got, want)
			}
			for _, d := range []time.Duration{knownWithin, unwellFor} {
				now = now.Add(d)
				if at := p.core.wake(); !at.IsZero() && !now.Before(at) {
					p.do(func() { p.core.expire(now) })
				}
				settle(p, cc)
			}
		}
		if _, err := cc.pick(t.Context(), "/s.A/M"); (err == nil) != tt.serves {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestS4_ManyThatWaitCostLittle has most of a fleet wait for a place, and one leave that has one.
func TestS4_ManyThatWaitCostLittle(t *testing.T) {
	p, cc := newPolicy(t)
	shared, _ := budget(2000)
	client, fleet, began := &attr.Client{Connections: shared}, bigFleet(20_000), time.Now()
	for _, left := range [][]resolver.Endpoint{fleet, fleet[1:]} {
		_ = hand(p, nil, &attr.State{Client: client, Endpoints: left})
		settle(p, cc)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("they were told in %v", took)
	}
}

// TestS4_PickFirstFailsWhereNoneIsFree has calls of a method that the instance in use does not serve.
func TestS4_PickFirstFailsWhereNoneIsFree(t *testing.T) {
	_, cc, update := boundTo(t, 1)
	if got := update(firstOne, "a v1 - s.A/M", "b v1 - s.A/New", "c v1 - s.A/New"); got != "a" {
		t.Fatalf("%s are connected to", got)
	}
	_, _ = cc.pick(t.Context(), "/s.A/New")
	update(firstOne, "a v1 - s.A/M", "b v1 - s.A/New", "c v1 - s.A/New")
	if _, err := cc.pick(t.Context(), "/s.A/New"); !errors.Is(err, errNoneFree) {
		t.Errorf("a call that none is free for: %v", err)
	}
	if got := update(firstOne, "b v1 - s.A/New", "c v1 - s.A/New"); got != "b" {
		t.Errorf("%s are connected to once one is", got)
	}
}

// openNow waits until n of servers are connected to.
func openNow(t *testing.T, servers []*server, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d connections are open", n), func() bool {
		_, open := connections(servers)
		return open == n
	})
}

func TestS4_CallsGoOverWhatMayBeOpen(t *testing.T) {
	for _, policy := range []string{`{}`, `{"childPolicy":[{"least_request_experimental":{}}]}`, `{"childPolicy":[{"etcd_weighted":{}}]}`} {
		servers := serveAll(t, specs(40, "i%02d v%d z%d")...)
		shared, reached := budget(8)
		r := newRig(t, &attr.Client{Connections: shared})
		r.update(policy, servers)
		load := r.load("/s.A/M")
		openNow(t, servers, 8)
		called := make(map[string]bool)
		eventually(t, "all of them are called", func() bool {
			addr, err := r.call(context.Background(), "/s.A/M")
			if err != nil {
				t.Fatal(err)
			}
			called[addr] = true
			return len(called) == 8
		})
		if n := reached.Load(); n != 1 {
			t.Errorf("%s: said %d times to be reached", policy, n)
		}

		// Those that leave make room for others.
		first := without(servers, func(s *server) bool { return s.open.Load() == 0 })
		stayed := first[:4]
		left := without(servers, func(s *server) bool { return slices.Contains(first[4:], s) })
		r.update(policy, left)
		openNow(t, left, 8)
		few := append(slices.Clone(stayed[:2]), without(left, func(s *server) bool { return s.open.Load() > 0 })[:6]...)
		r.update(policy, few)
		openNow(t, few, 8)
		load.stop()
		openNow(t, servers, 8)
		if made, _ := connections(servers); made > 24 {
			t.Errorf("%s: %d connections were made", policy, made)
		}
		_ = r.conn.Close()
	}
}

// TestS4_WhatIsKnownToBeGoodStays has 600 dead entries put beside a set under load.
func TestS4_WhatIsKnownToBeGoodStays(t *testing.T) {
	servers := serveAll(t, specs(8, "i%02d v%d z%d")...)
	shared, reached := budget(16)
	r := newRig(t, &attr.Client{Connections: shared})
	r.update(`{}`, servers)
	r.connected(servers)
	load := r.load("/s.A/M")
	r.update(`{}`, append(dead(600), servers...))
	eventually(t, "the bound is reached", func() bool { return reached.Load() > 0 })
	late := serve(t, "late")
	r.update(`{}`, append(dead(60), append(servers, late)...))
	openNow(t, []*server{late}, 1) // behind the dead ones
	load.stop()
	if made, open := connections(servers); made != 8 || open != 8 {
		t.Errorf("%d connections are open, %d were made", open, made)
	}
}

func TestS4_ClientsOfAServiceShareItsBudget(t *testing.T) {
	servers := serveAll(t, specs(40, "i%02d v%d z%d")...)
	shared, _ := budget(16)
	one, two := newRig(t, &attr.Client{Connections: shared}), newRig(t, &attr.Client{Connections: shared})
	one.update(`{}`, servers)
	openNow(t, servers, 16)
	two.update(`{}`, servers) // it has its first beyond the bound
	for range 20 {
		if _, err := two.call(context.Background(), "/s.A/M"); err != nil {
			t.Fatal(err)
		}
	}
	if _, open := connections(servers); open != 17 {
		t.Errorf("%d connections are open", open)
	}
	load := two.load("/s.A/M")
	_ = one.conn.Close()
	openNow(t, servers, 16)
	load.stop()
}

func TestS4_ACallToAnInstanceGoesFirst(t *testing.T) {
	servers := serveAll(t, specs(40, "i%02d v%d z%d")...)
	shared, _ := budget(16)
	r := newRig(t, &attr.Client{Connections: shared})
	r.update(`{}`, servers)
	openNow(t, servers, 16)
	is := func(s *server) bool { return s.open.Load() > 0 }
	connected := without(servers, func(s *server) bool { return !is(s) })[0]
	beyond := without(servers, is)
	last := beyond[len(beyond)-1] // which has waited least
	for range 3 {
		_, err := r.call(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: last.Instance}), "/s.A/M")
		if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != fmt.Sprintf("etcd: instance %q at %q: %v", last.Instance, last.Addr, errNoneFree) {
			t.Errorf("without a permit: %v", err)
		}
	}
	answered := make(chan error, 1)
	go func() {
		_, err := r.call(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: last.Instance}), "/s.A/M", grpc.WaitForReady(true))
		answered <- err
	}()
	r.update(`{}`, without(servers, func(s *server) bool { return s == connected }))
	if err := <-answered; err != nil {
		t.Errorf("one that waits: %v", err)
	}
	openNow(t, servers, 16)
	if n := len(without(beyond, is)); n != len(beyond)-1 {
		t.Errorf("%d of those that waited longer are connected to", len(beyond)-1-n)
	}
}

// TestS4_WhoIsNamedIsNext has a permit become free though the plan stays as it is.
func TestS4_WhoIsNamedIsNext(t *testing.T) {
	p, cc, update := boundTo(t, 1)
	if got := update("", "a", "b", "c"); got != "a" {
		t.Fatalf("%s are connected to", got)
	}
	_, _ = cc.pick(calloptions.WithTarget(t.Context(), calloptions.Target{Instance: "c"}), "/s.A/M")
	settle(p, cc)
	cc.last("a:1").set(connectivity.TransientFailure, errors.New("refused"))
	settle(p, cc)
	if got := cc.connectedTo(); got != "c" {
		t.Errorf("%s are connected to", got)
	}
}

// TestLeaderHasAPlace has one instance after the other lead, of more than the client may connect to.
func TestLeaderHasAPlace(t *testing.T) {
	const method = "/a.B/C"
	p, cc := newPolicy(t)
	shared, _ := budget(2)
	client := &attr.Client{Connections: shared, LeaderMethods: map[string]struct{}{method: {}}}
	for _, tt := range []struct{ leader, connected string }{{"", "ab"}, {"d", "abd"}, {"c", "abc"}, {"a", "ab"}, {"e", "abe"}} {
		_ = hand(p, nil, &attr.State{Client: client, Endpoints: ends("a", "b", "c", "d", "e"), Leader: attr.Leader{Instance: tt.leader, Token: 7}})
		settle(p, cc)
		_, _ = cc.pick(t.Context(), method) // names the leader
		settle(p, cc)
		addr, err := cc.pick(t.Context(), method)
		if got := cc.connectedTo(); got != tt.connected {
			t.Errorf("while %q leads, %s are connected to, want %s", tt.leader, got, tt.connected)
		}
		if tt.leader != "" && (err != nil || addr != tt.leader+":1") {
			t.Errorf("to %q: %v", tt.leader, err)
		}
	}
}

func without(servers []*server, gone func(*server) bool) (left []*server) {
	for _, s := range servers {
		if !gone(s) {
			left = append(left, s)
		}
	}
	return left
}

// TestS4_DeadOnesTakeNoPlaces has dead ones come first.
func TestS4_DeadOnesTakeNoPlaces(t *testing.T) {
	for _, policy := range []string{`{"childPolicy":[{"pick_first":{}}]}`, "{" + ring + "}"} {
		servers := append(dead(20), serveAll(t, specs(20, "i%02d v%d z%d")...)...)
		shared, _ := budget(3)
		r := newRig(t, &attr.Client{Connections: shared})
		r.update(policy, servers)
		for i := range 60 {
			ctx := calloptions.WithAffinity(context.Background(), fmt.Sprint(i))
			if _, err := r.call(ctx, "/s.A/M", grpc.WaitForReady(true)); err != nil {
				t.Fatalf("%s: %v", policy, err)
			}
		}
		if _, open := connections(servers); open < 1 || open > 3 {
			t.Errorf("%s: %d connections are open", policy, open)
		}
		_ = r.conn.Close()
	}
}
