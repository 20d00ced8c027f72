package descriptors

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/coretest"
)

func TestCoreIsPure(t *testing.T) { coretest.Check(t, "core.go", "queue.go", "pace.go") }

// script drives a core. A place is named by its gRPC connection and a number, "a1"; one that ends in n is of
// an address that is a name.
type script struct {
	core   core
	now    time.Time
	shares map[byte]*share
	places map[string]*place
}

// called is a Holder that knows its name alone.
type called string

func (called) Dial()    {}
func (called) Refuse()  {}
func (called) Reclaim() {}

func newScript(limit int) *script {
	return &script{core: core{limit: limit}, now: time.Unix(1e9, 0), shares: make(map[byte]*share), places: make(map[string]*place)}
}

func (s *script) place(name string) *place {
	if s.places[name] == nil {
		if s.shares[name[0]] == nil {
			s.shares[name[0]] = new(share)
		}
		s.places[name] = s.core.newPlace(s.shares[name[0]], called(name), 1+strings.Count(name, "n"))
	}
	return s.places[name]
}

// event hands an event to the core, and returns the effects: "dial a1, refuse a2, wake 1s".
func (s *script) event(verb, name string) string {
	if verb == "after" {
		d, err := time.ParseDuration(name)
		if err != nil {
			panic(err)
		}
		s.now = s.now.Add(d)
		return s.text(s.core.expire(s.now))
	}
	p := s.place(name)
	switch verb {
	case "want":
		return s.text(s.core.want(p, false, s.now))
	case "call":
		return s.text(s.core.want(p, true, s.now))
	case "open":
		return s.text(s.core.opened(p, s.now))
	case "fail":
		return s.text(s.core.failed(p, s.now))
	case "end":
		return s.text(s.core.ended(p, s.now))
	case "leave":
		return s.text(s.core.leave(p, s.now))
	case "join":
		return s.text(s.core.join(p, s.now))
	case "release":
		return s.text(s.core.release(p, s.now))
	}
	panic(verb)
}

func (s *script) text(e effects) string {
	var all []string
	for _, effect := range []struct {
		verb   string
		places []*place
	}{{"dial", e.dial}, {"refuse", e.refuse}, {"reclaim", e.reclaim}} {
		for _, p := range effect.places {
			all = append(all, fmt.Sprint(effect.verb, " ", p.holder))
		}
	}
	if e.full {
		all = append(all, "full")
	}
	if !e.wake.IsZero() {
		all = append(all, "wake "+e.wake.Sub(s.now).String())
	}
	return strings.Join(all, ", ")
}

// TestS4_PlacesAreSharedOut has a line an event, with the effects behind an arrow.
func TestS4_PlacesAreSharedOut(t *testing.T) {
	for _, tt := range []struct {
		rule  string
		limit int
		lines string
	}{
		{"whoever finds a place free has it", 2, `
			want a1 -> dial a1
			want a2 -> dial a2
			want a1
			open a1
			want a1`},
		{"who finds none is refused, and the bound is said to be reached once", 1, `
			want a1 -> dial a1
			want a2 -> refuse a2, full
			want a2
			want a3 -> refuse a3`},
		{"a place that is given back goes to who waits longest", 1, `
			want a1 -> dial a1
			want a2 -> refuse a2, full
			want a3 -> refuse a3
			release a1 -> dial a2
			fail a2 -> dial a3
			end a3
			want a3 -> dial a3
			want a2 -> refuse a2, full`},
		{"what fails waits behind the others, and is refused anew", 1, `
			want a1 -> dial a1
			want a2 -> refuse a2, full
			fail a1 -> dial a2
			want a1 -> refuse a1, full
			want a3 -> refuse a3
			fail a2 -> dial a3
			fail a3 -> dial a1`},
		{"what is open stays open, whoever waits", 1, `
			want a1 -> dial a1
			open a1
			call b1 -> refuse b1, full
			after 1h`},
		{"a connection that ends has a moment to connect again", 1, `
			want a1 -> dial a1
			open a1
			want a2 -> refuse a2, full
			after 1s
			end a1 -> wake 1s
			after 999ms -> wake 1ms
			want a1
			after 1h
			open a1
			after 1s
			end a1 -> wake 1s
			after 1s -> dial a2
			want a1 -> refuse a1, full`},
		{"... which costs nothing while nobody waits", 1, `
			want a1 -> dial a1
			open a1
			after 1s
			end a1
			want a2 -> refuse a2, full, wake 1s
			leave a2
			after 2s
			want a2 -> dial a2`},
		{"... and which ends with the SubConn, or its last user", 1, `
			want a1 -> dial a1
			open a1
			after 1s
			end a1
			release a1
			want a2 -> dial a2
			open a2
			after 1s
			end a2
			leave a2
			want a3 -> dial a3`},
		{"what was connected before goes before what was not", 1, `
			want a1 -> dial a1
			open a1
			want a2 -> refuse a2, full
			after 1s
			end a1 -> wake 1s
			after 1s -> dial a2
			want a3 -> refuse a3, full
			want a1 -> refuse a1
			fail a2 -> dial a1`},
		{"... also after it failed", 1, `
			want a1 -> dial a1
			open a1
			after 1s
			end a1
			want a1
			fail a1
			want a2 -> dial a2
			want a3 -> refuse a3, full
			want a1 -> refuse a1
			fail a2 -> dial a1`},
		{"a call that names its instance goes first", 1, `
			want a1 -> dial a1
			want a2 -> refuse a2, full
			want a3 -> refuse a3
			call a3
			call a4 -> refuse a4
			fail a1 -> dial a3
			fail a3 -> dial a4
			fail a4 -> dial a2`},
		{"a gRPC connection that has none goes before that", 2, `
			want a1 -> dial a1
			want a2 -> dial a2
			call a3 -> refuse a3, full
			want b1 -> refuse b1
			want b2 -> refuse b2
			fail a1 -> dial b1
			fail a2 -> dial a3`},
		{"then the one that has the fewest, then the one that waits longest", 3, `
			want a1 -> dial a1
			want a2 -> dial a2
			want b1 -> dial b1
			want a3 -> refuse a3, full
			want c1 -> refuse c1
			want a4 -> refuse a4
			want b2 -> refuse b2
			want c2 -> refuse c2
			fail b1 -> dial c1
			fail a2 -> dial b2
			fail c1 -> dial c2
			fail c2 -> dial a3
			want c1 -> refuse c1
			release a1 -> dial c1
			fail c1 -> dial a4`},
		{"the last places are kept: one sixteenth for a first one, another for calls that name their instance", 16, `
			want a1 -> dial a1
			want a2 -> dial a2
			want a3 -> dial a3
			want a4 -> dial a4
			want a5 -> dial a5
			want a6 -> dial a6
			want a7 -> dial a7
			want a8 -> dial a8
			want a9 -> dial a9
			want a10 -> dial a10
			want a11 -> dial a11
			want a12 -> dial a12
			want a13 -> dial a13
			want a14 -> dial a14
			want a15 -> refuse a15, full
			call a16 -> dial a16
			call a17 -> refuse a17
			want b1 -> dial b1
			want b2 -> refuse b2
			want c1 -> refuse c1
			fail a1 -> dial c1
			fail a2
			fail a3 -> dial a17
			fail a4
			fail a5 -> dial b2`},
		{"a name may take two descriptors until it is connected", 3, `
			want a1n -> dial a1n
			want a2n -> refuse a2n, full
			want a3 -> refuse a3
			open a1n -> dial a2n
			open a2n -> dial a3
			release a1n
			release a2n
			want a4n -> dial a4n
			fail a4n
			want a5 -> dial a5`},
		{"... also when it connects again", 3, `
			want a1n -> dial a1n
			open a1n
			want a2 -> dial a2
			after 1s
			end a1n
			want a1n
			open a1n
			want a3 -> dial a3
			after 1s
			end a1n
			want a1n -> refuse a1n, full
			fail a2 -> dial a1n`},
		{"... but not more than there are", 1, `
			want a1n -> dial a1n
			open a1n
			after 1s
			end a1n
			want a1n`},
		{"what has failed comes last", 1, `
			want a1 -> dial a1
			fail a1
			want a2 -> dial a2
			want a1 -> refuse a1, full
			want a3 -> refuse a3
			fail a2 -> dial a3
			fail a3 -> dial a1
			want a3 -> refuse a3, full
			call a2 -> refuse a2
			fail a1 -> dial a2`},
		{"... and so does what did not last, twice", 1, `
			want a1 -> dial a1
			open a1
			want a2 -> refuse a2, full
			end a1 -> wake 1s
			want a1
			open a1
			after 999ms
			end a1 -> dial a2
			want a1 -> refuse a1, full
			want a3 -> refuse a3
			fail a2 -> dial a3
			fail a3 -> dial a1
			open a1
			after 1s
			end a1
			want a3 -> refuse a3, full, wake 1s
			want a1`},
		{"what nobody uses is asked back before another is refused", 2, `
			want a1 -> dial a1
			open a1
			want a2 -> dial a2
			leave a1
			leave a1
			want b1 -> reclaim a1
			want b2 -> refuse b2, full
			release a1 -> dial b1`},
		{"... and is lost to nobody if it is used again", 1, `
			want a1 -> dial a1
			leave a1
			want b1 -> reclaim a1
			join a1 -> refuse b1, full
			open a1
			leave a1 -> reclaim a1
			release a1 -> dial b1`},
		{"... or its connection ends by itself", 1, `
			want a1 -> dial a1
			leave a1
			want b1 -> reclaim a1
			fail a1 -> dial b1
			open b1
			leave b1
			end b1
			want a2 -> dial a2`},
		{"... and no more of it than wait", 2, `
			want a1 -> dial a1
			want a2 -> dial a2
			leave a1
			leave a2
			want b1 -> reclaim a1
			want b1
			want b2 -> reclaim a2
			release b1
			release a1 -> dial b2
			release a2`},
		{"who leaves waits no longer, and is told again when it is back", 1, `
			want a1 -> dial a1
			want a2 -> refuse a2, full
			want a3 -> refuse a3
			leave a2
			release a3
			fail a1
			want a4 -> dial a4
			join a2
			want a2 -> refuse a2, full`},
		{"what is gone hears and takes nothing", 1, `
			want a1 -> dial a1
			want a2 -> refuse a2, full
			release a1 -> dial a2
			want a1
			open a1
			fail a1
			end a1
			leave a1
			join a1
			release a1
			want a3 -> refuse a3, full`},
		{"news of what holds no place changes nothing", 1, `
			open a1
			fail a1
			end a1
			leave a1
			join a1
			want a1 -> dial a1
			fail a1
			end a1
			want a2 -> dial a2`},
	} {
		s := newScript(tt.limit)
		for line := range strings.Lines(strings.TrimSpace(tt.lines)) {
			event, want, _ := strings.Cut(strings.TrimSpace(line), " -> ")
			verb, name, _ := strings.Cut(event, " ")
			if got := s.event(verb, name); got != want {
				t.Errorf("%s: %s: got %q, want %q", tt.rule, event, got, want)
				break
			}
		}
	}
}

// TestS4_FailuresArePaced has many more endpoints than fail at once, and says when they may try again.
func TestS4_FailuresArePaced(t *testing.T) {
	s := newScript(1000)
	name := func(i int) string { return "a" + strconv.Itoa(i) }
	for i := range 150 {
		s.event("want", name(i))
		s.event("fail", name(i)) // the first time costs nothing
	}
	for i := range 150 {
		want := "dial " + name(i)
		if i >= burst {
			want = "refuse " + name(i) + ", wake 100ms"
		}
		if got := s.event("want", name(i)); got != want {
			t.Fatalf("attempt %d: %q, want %q", i, got, want)
		}
	}
	for _, tt := range []struct{ event, want string }{
		{"want a99", "wake 100ms"}, // it has its place
		{"after 99ms", "wake 1ms"},
		{"after 1ms", "dial a100, wake 100ms"},
		{"fail a100", "wake 100ms"},
		{"want b1", "dial b1, wake 100ms"},
		{"call a101", "dial a101, wake 100ms"},
		{"open a0", "dial a102, wake 100ms"}, // it did not fail, and so it costs nothing
		{"after 100ms", "dial a103, wake 100ms"},
		{"end a0", "wake 100ms"},
		{"want a0", "wake 100ms"},
		{"open a0", "wake 100ms"},
		{"end a0", "wake 100ms"},
		{"want a0", "refuse a0, wake 100ms"},
		{"after 200ms", "dial a104, dial a105, wake 100ms"},
	} {
		verb, name, _ := strings.Cut(tt.event, " ")
		if got := s.event(verb, name); got != tt.want {
			t.Fatalf("%s: %q, want %q", tt.event, got, tt.want)
		}
	}
	if s.place("a0").outcome() != Paced {
		t.Error("it is not paced")
	}
	for i := range 150 {
		s.event("release", name(i))
	}
	s.event("after", "1h")
	for i := range burst {
		n := name(200 + i)
		s.event("want", n)
		s.event("open", n)
		s.event("end", n)
		s.event("want", n)
		s.event("open", n)
		s.event("end", n)
		if got := s.event("want", n); got != "dial "+n {
			t.Fatalf("attempt %d an hour later: %q", i, got)
		}
		s.event("open", n) // it was connected before: that is no success
	}
	s.event("end", name(200))
	if got := s.event("want", name(200)); got != "refuse a200, wake 100ms" {
		t.Errorf("one attempt more: %q", got)
	}
}

// TestS4_CoreAlways drives the core at random and checks after every event what must always hold.
func TestS4_CoreAlways(t *testing.T) {
	verbs := []string{"want", "want", "want", "call", "open", "open", "fail", "end", "leave", "join", "release", "after"}
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := newScript(1 + rnd.IntN(40))
		for step := range 1000 {
			name := string(rune('a'+rnd.IntN(3))) + strconv.Itoa(rnd.IntN(30)) + []string{"", "n"}[rnd.IntN(2)]
			verb := verbs[rnd.IntN(len(verbs))]
			if verb == "after" {
				name = "300ms"
			} else if verb == "want" || verb == "call" {
				s.event("join", name) // who asks uses it
			}
			effects := s.event(verb, name)
			if verb == "release" {
				delete(s.places, name) // the next of that name is another SubConn
			}
			if problem := s.check(); problem != "" {
				t.Fatalf("seed %d, step %d: after %s %s (%s): %s", seed, step, verb, name, effects, problem)
			}
		}
		for name := range s.places {
			s.event("release", name)
		}
		if c := &s.core; c.used+c.waiting+c.returning+len(c.sharing)+len(c.untold)+c.spare.Len()+c.resting.Len() > 0 {
			t.Errorf("seed %d: left: %+v", seed, c)
		}
	}
}

func (s *script) check() string {
	used, waits, asked := 0, 0, 0
	held := make(map[*share]int)
	for _, p := range s.places {
		switch p.state {
		case dialing:
			used += p.cost
		case open, resting:
			used++
		case waiting:
			waits++
			if p.unused {
				return "one waits that nobody uses"
			}
		}
		if p.state.holds() {
			held[p.share]++
		}
		if p.asked {
			asked++
		}
	}
	c := &s.core
	switch {
	case used != c.used || used > c.limit:
		return fmt.Sprintf("%d descriptors are in use, counted as %d of %d", used, c.used, c.limit)
	case waits != c.waiting || asked != c.returning:
		return fmt.Sprintf("%d wait and %d are asked back, counted as %d and %d", waits, asked, c.waiting, c.returning)
	case len(c.untold) > c.returning:
		return fmt.Sprintf("%d were not told to wait for %d", len(c.untold), c.returning)
	}
	for _, share := range s.shares {
		if share.held != held[share] {
			return fmt.Sprintf("a share holds %d, counted as %d", held[share], share.held)
		}
	}
	if p, r := c.next(c.pace.ready(s.now)); p != nil && c.used+p.cost <= c.bound(r) {
		return fmt.Sprintf("%v waits for a place that is free", p.holder)
	}
	return ""
}
