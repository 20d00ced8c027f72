package balancer

import (
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestCrossing walks every sequence of events, and checks what must hold after each: calls leave only for what is there, and
// are told of each time that they begin to or end, and the policy away is open for them.
func TestCrossing(t *testing.T) {
	type event struct {
		name string
		do   func(c *crossing, epoch uint64, now time.Time)
	}
	events := []event{
		{"offered", func(c *crossing, _ uint64, now time.Time) { c.offer(true, now) }},
		{"not offered", func(c *crossing, _ uint64, now time.Time) { c.offer(false, now) }},
		{"home lacks", func(c *crossing, epoch uint64, now time.Time) { c.home(epoch, true, now) }},
		{"home serves", func(c *crossing, epoch uint64, now time.Time) { c.home(epoch, false, now) }},
		{"asked", func(c *crossing, epoch uint64, now time.Time) { c.asked(epoch, now) }},
		{"asked by an old picker", func(c *crossing, _ uint64, now time.Time) { c.asked(0, now) }},
		{"time", func(c *crossing, _ uint64, now time.Time) { c.expire(now) }},
	}
	const steps = 5
	var walk func(c crossing, names []string, told bool, given bool)
	walk = func(c crossing, names []string, told, given bool) {
		for _, e := range events {
			now := time.Unix(int64(1000+3*len(names)), 0)
			next, path := c, append(names[:len(names):len(names)], e.name)
			before := next
			e.do(&next, uint64(len(path)), now)
			out := next.flush()
			is := told
			if out.tell {
				is = !told
			}
			has := given
			if out.updateAway {
				has = next.open
			}
			switch {
			case is != next.leaving():
				t.Fatalf("%q: told that calls leave: %v, and they do: %v", path, is, next.leaving())
			case has != next.open:
				t.Fatalf("%q: the policy away has endpoints: %v, and is open: %v", path, has, next.open)
			case next.leaving() && !next.open:
				t.Fatalf("%q: calls leave for what is not open", path)
			case next.leaving() && !next.closeAt.IsZero():
				t.Fatalf("%q: calls leave for what is about to be closed", path)
			case next.leaving() == next.lookAt.IsZero():
				t.Fatalf("%q: calls leave: %v, and it is looked at by %v", path, next.leaving(), next.lookAt)
			case next.open && !next.leaving() && next.closeAt.IsZero():
				t.Fatalf("%q: nothing leaves, and it stays open for ever", path)
			case before.open && !next.open && now.Before(before.closeAt):
				t.Fatalf("%q: closed before its time", path)
			case e.name == "asked by an old picker" && len(names) > 0 && before.epoch > 0 && next.lacking != before.lacking:
				t.Fatalf("%q: an old picker counts", path)
			}
			if len(path) < steps {
				walk(next, path, is, has)
			}
		}
	}
	walk(crossing{}, nil, false, false)
}

// TestFallback_AStrictLaneThatNobodyIsInIsLetGo has one call, and then one now and then, be for a lane that nobody is in: the
// other cluster stays connected for as long as there are such calls, and a while.
func TestFallback_AStrictLaneThatNobodyIsInIsLetGo(t *testing.T) {
	m := newTimed(t)
	var told []bool
	client := &attr.Client{Away: &attr.Client{}, CallsLeave: func(leave bool) { told = append(told, leave) }}
	s := &attr.State{Client: client, Endpoints: ends("a"), Away: &attr.State{Endpoints: ends("b")}}
	red := calloptions.WithLane(t.Context(), "red")
	config := mustConfig(t, `{"route":[{"label":"lane","strict":true}]}`)
	call := func() {
		_, _, _ = m.cc.begin(red, "/s.A/M")
		settle(m.home, m.cc)
	}
	m.hand(config, s, 0)
	for range 2 {
		told = nil
		call()
		for range 5 {
			m.pass(linger)
			call()
		}
		if open := addrs(m.cc.open()); open != "ab" || !slices.Equal(told, []bool{true}) {
			t.Errorf("there are such calls, and %s are open; told %v", open, told)
		}
		for range 2 {
			m.hand(config, s, linger) // a plan has no say in it
		}
		call()
		m.pass(linger)
		if open := addrs(m.cc.open()); open != "ab" {
			t.Errorf("there was such a call, and %s are open", open)
		}
		for range 4 {
			m.hand(config, s, linger)
		}
		if open := addrs(m.cc.open()); open != "a" || told[len(told)-1] {
			t.Errorf("there are no such calls any more, and %s are open; told %v", open, told)
		}
	}
}

// TestFallback_WhatIsRenewedIsWaitedFor has the only server at home be connected to or asked for its health anew: calls wait
// for it, and leave once that takes long, or it refuses.
func TestFallback_WhatIsRenewedIsWaitedFor(t *testing.T) {
	const its, other, waits = "a:1", "b:1", ""
	end := func(s *fakeSubConn) { s.set(connectivity.Idle, nil) }
	asked := func(s *fakeSubConn) { s.health(balancer.SubConnState{ConnectivityState: connectivity.Connecting}) }
	well := func(s *fakeSubConn) { s.health(balancer.SubConnState{ConnectivityState: connectivity.Ready}) }
	for _, tt := range []struct {
		name           string
		hangs, refuses bool
		renew, then    func(*fakeSubConn)
		after          time.Duration
		at, later      string
	}{
		{"its connection ends", true, false, end, func(s *fakeSubConn) { s.set(connectivity.Ready, nil) }, 0, waits, its},
		{"... and hangs", true, false, end, nil, knownWithin, waits, other},
		{"... and refuses", false, true, end, nil, 0, other, other},
		{"it is asked for its health", false, false, asked, well, 0, waits, its},
		{"... and says nothing", false, false, asked, nil, knownWithin, waits, other},
	} {
		m := newTimed(t)
		m.cc.hangs, m.cc.down = make(map[string]bool), make(map[string]error)
		left := false
		client := &attr.Client{Away: &attr.Client{}, CallsLeave: func(leave bool) { left = left || leave }}
		m.hand(nil, &attr.State{Client: client, Endpoints: ends("a"), Away: &attr.State{Endpoints: ends("b")}}, time.Second)
		where := func() (addr string) {
			for range 2 { // the first that leaves has what is away connected to
				addr, _, _ = m.cc.begin(t.Context(), "/s.A/M")
				settle(m.home, m.cc)
			}
			return addr
		}
		if got := where(); got != its {
			t.Fatalf("%s: at first calls go to %q", tt.name, got)
		}
		m.cc.hangs[its] = tt.hangs
		if tt.refuses {
			m.cc.down[its] = errors.New("refused")
		}
		s := m.cc.last(its)
		tt.renew(s)
		settle(m.home, m.cc)
		if got := where(); got != tt.at || left != (tt.at == other) {
			t.Errorf("%s: calls go to %q, and have left: %v; want %q", tt.name, got, left, tt.at)
		}
		if tt.then != nil {
			tt.then(s)
		}
		m.pass(tt.after)
		if got := where(); got != tt.later || left != (tt.later == other) {
			t.Errorf("%s: later calls go to %q, and have left: %v; want %q", tt.name, got, left, tt.later)
		}
	}
}

// TestFraction_Takes counts the calls of a part.
func TestFraction_Takes(t *testing.T) {
	for _, f := range []fraction{{0, 1}, {1, 1}, {1, 2}, {1, 3}, {3, 4}, {7, 100}} {
		p := &plan{}
		took := uint64(0)
		for range 1000 * f.of {
			if f.takes(p.sequence.Next()) {
				took++
			}
		}
		if took+2 < 1000*f.n || took > 1000*f.n+2 {
			t.Errorf("%d of %d take %d of %d", f.n, f.of, took, 1000*f.of)
		}
	}
}
