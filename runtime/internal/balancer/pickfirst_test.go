package balancer

import (
	"errors"
	"hash/maphash"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestPickFirst has one instance at a time be connected to, in order.
func TestPickFirst(t *testing.T) {
	p, cc := newTestPolicy(t)
	now := time.Now()
	p.now = func() time.Time { return now }
	update := func(specs ...string) func() {
		return func() { _ = hand(p, mustConfig(t, "{"+firstOne+"}"), &attr.State{Endpoints: ends(specs...)}) }
	}
	fails := func(addr string) func() {
		return func() { cc.down[addr] = errors.New("refused"); cc.last(addr).set(connectivity.Idle, nil) }
	}
	for _, tt := range []struct {
		what           string
		do             func()
		picks, connect string
	}{
		{"at first", update("a", "b", "c"), "a:1", "a"},
		{"one that comes before", update("0", "a", "b", "c"), "a:1", "a"},
		{"the first fails", fails("a:1"), "0:1", "0"},
		{"so does the next", fails("0:1"), "b:1", "b"},
		{"others are up", func() { clear(cc.down); cc.revive() }, "b:1", "b"},
		{"it leaves", update("0", "a", "c"), "0:1", "0"},
		{"one that a call names comes before", func() {
			update("+", "0", "a")()
			settle(p, cc)
			_, _ = cc.pick(calloptions.WithTarget(t.Context(), calloptions.Target{Instance: "+"}), "/s.A/M")
		}, "0:1", "0+"},
		{"entries change", update("+", "0", "b"), "0:1", "0+"},
	} {
		tt.do()
		settle(p, cc)
		if tt.what == "at first" && len(cc.made) != 1 {
			t.Errorf("%d are connected to at first", len(cc.made))
		}
		now = now.Add(linger)
		p.do(func() { p.core.reselect(now) })
		settle(p, cc)
		if got, err := cc.pick(t.Context(), "/s.A/M"); err != nil || got != tt.picks || cc.connectedTo() != tt.connect {
			t.Errorf("%s: calls go to %s, %v, and %s are connected to, want %s", tt.what, got, err, cc.connectedTo(), tt.picks)
		}
	}
}

// TestPickFirst_ReturnsToItsZone has what serves in the client's own zone come, go and come back.
func TestPickFirst_ReturnsToItsZone(t *testing.T) {
	p, cc := newTestPolicy(t)
	now := time.Now()
	p.now = func() time.Time { return now }
	update := func(specs ...string) func() {
		return func() {
			_ = hand(p, mustConfig(t, `{"preferZone":true,`+firstOne+`}`), &attr.State{Client: &attr.Client{Zone: "x"}, Endpoints: ends(specs...)})
		}
	}
	for _, tt := range []struct {
		what           string
		do             func()
		picks, connect string
	}{
		{"none is there", update("f - y", "g - y"), "f:1", "f"},
		{"two come", update("f - y", "g - y", "m - x", "n - x"), "m:1", "m"},
		{"they fail", func() {
			cc.down["m:1"], cc.down["n:1"] = errRefused, errRefused
			cc.last("m:1").set(connectivity.Idle, nil)
		}, "f:1", "f"},
		{"the second is back", func() { delete(cc.down, "n:1"); cc.revive() }, "n:1", "n"},
		{"so is the first", func() { delete(cc.down, "m:1"); cc.revive() }, "n:1", "n"},
		{"one that hangs is left", func() {
			cc.hangs = map[string]bool{"m:1": true}
			update("f - y", "g - y", "m - x")()
		}, "f:1", "mf"},
	} {
		tt.do()
		settle(p, cc)
		for range 3 {
			now = now.Add(linger)
			p.do(func() { p.core.reselect(now) })
			settle(p, cc)
		}
		if got, err := cc.pick(t.Context(), "/s.A/M"); err != nil || got != tt.picks || cc.connectedTo() != tt.connect {
			t.Errorf("%s: calls go to %s, %v, and %s are connected to, want %s", tt.what, got, err, cc.connectedTo(), tt.picks)
		}
	}
}

// TestPickFirst_OfASubset has the endpoint of a subset of one connect after another, which calls of another method go to.
func TestPickFirst_OfASubset(t *testing.T) {
	for range 8 { // some seeds prefer a
		p, cc := newTestPolicy(t)
		now := time.Now()
		p.now = func() time.Time { return now }
		cc.hangs = map[string]bool{"a:1": true}
		_ = hand(p, mustConfig(t, `{"subset":1,`+firstOne+"}"), &attr.State{Client: &attr.Client{Seed: maphash.MakeSeed()}, Endpoints: ends("a - - s.A/M", "b - - s.A/M,N")})
		_, _ = cc.pick(t.Context(), "/s.A/N")
		for _, after := range []time.Duration{0, knownWithin, linger} {
			settle(p, cc)
			now = now.Add(after)
			p.do(func() { p.core.reselect(now) })
			if a := cc.last("a:1"); a != nil && after == knownWithin {
				a.set(connectivity.Ready, nil)
			}
		}
		if _, err := cc.pick(t.Context(), "/s.A/M"); err != nil {
			t.Error(err)
		}
	}
}

// TestPickFirst_NextIsTriedBesideWhatHangs has no call wait for more than one connection that is not answered.
func TestPickFirst_NextIsTriedBesideWhatHangs(t *testing.T) {
	p, cc := newTestPolicy(t)
	begun := time.Now()
	now := begun
	p.now = func() time.Time { return now }
	cc.hangs = map[string]bool{"a:1": true, "b:1": true}
	_ = hand(p, mustConfig(t, "{"+firstOne+"}"), &attr.State{Endpoints: ends("a", "b", "c", "d")})
	for _, want := range []struct {
		after time.Duration
		made  int
	}{{0, 1}, {nextWithin - 1, 1}, {nextWithin, 2}, {2*nextWithin - 1, 2}, {2 * nextWithin, 3}, {3 * nextWithin, 3}} {
		now = begun.Add(want.after)
		p.do(func() { p.core.reselect(now) })
		settle(p, cc)
		if len(cc.made) != want.made {
			t.Errorf("after %v %d are connected to, want %d", want.after, len(cc.made), want.made)
		}
	}
	if got, err := cc.pick(t.Context(), "/s.A/M"); err != nil || got != "c:1" {
		t.Errorf("calls go to %s, %v", got, err)
	}
}

// TestPickFirst_ManyThatHangAreWaitedForAsOne has a lane of many instances that hang: its calls do not wait for each in turn.
func TestPickFirst_ManyThatHangAreWaitedForAsOne(t *testing.T) {
	p, cc := newTestPolicy(t)
	begun := time.Now()
	now := begun
	p.now = func() time.Time { return now }
	cc.hangs = map[string]bool{}
	specs := []string{"base v1"}
	for _, name := range strings.Split("a,b,c,d,e,f,g,h", ",") {
		specs = append(specs, name+" v2")
		cc.hangs[name+":1"] = name != "h"
	}
	_ = hand(p, mustConfig(t, `{`+firstOne+`,`+looseRed+`}`), &attr.State{Client: &attr.Client{}, Endpoints: ends(specs...)})
	lane := calloptions.WithLane(t.Context(), "red")
	for _, tt := range []struct {
		after time.Duration
		want  string
	}{{0, ""}, {knownWithin - 1, ""}, {knownWithin, "base:1"}, {7*nextWithin - 1, "base:1"}, {7 * nextWithin, "h:1"}} {
		for until := begun.Add(tt.after); now.Before(until); settle(p, cc) {
			now = now.Add(min(nextWithin, until.Sub(now)))
			p.do(func() { p.core.reselect(now) })
		}
		settle(p, cc)
		if got, err := cc.pick(lane, "/s.A/M"); got != tt.want {
			t.Errorf("after %v calls go to %q, %v, want %q", tt.after, got, err, tt.want)
		}
		settle(p, cc)
	}
}

// TestPickFirstIsShuffled has clients each have an order of their own, which stays as others come and go.
func TestPickFirstIsShuffled(t *testing.T) {
	first := map[byte]int{}
	for range 100 {
		in := &input{config: mustConfig(t, `{"childPolicy":[{"pick_first":{"shuffleAddressList":true}}]}`), client: &attr.Client{Seed: maphash.MakeSeed()}, endpoints: fleet()}
		orderOf := func() (text string) {
			p := makePlan(in)
			p.base.open()
			for _, m := range p.base.groups[0].tiers[0].use.Load().members {
				text += instance(&p.All[m])
			}
			return text
		}
		order := orderOf()
		first[order[0]]++
		in.endpoints = in.endpoints[:4]
		if got := orderOf(); order[0] != 'e' && got[0] != order[0] {
			t.Errorf("the order %s becomes %s", order, got)
		}
	}
	if len(first) != 5 {
		t.Errorf("the first are %v", first)
	}
}
