package registrar

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/coretest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

func TestCoreIsPure(t *testing.T) { coretest.Check(t, "core.go", "claims.go", "entry.go") }

// published returns the entry of a service, with the default layout and TTL.
func published(t *testing.T, service, key string, layouts ...endpoint.Layout) Entry {
	t.Helper()
	e, err := NewEntry(key, layouts, 15*time.Second, endpoint.Endpoint{}, Details{}, service)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A rule is what happens to a server, and where it stands then: "phase", "phase: effects" or the error.
func TestG24_Phases(t *testing.T) {
	for name, rules := range map[string][][2]string{
		"announced and withdrawn": {
			{"announce", "announcing"},
			{"placed", "serving"},
			{"withdraw", "withdrawn: unfollow drop"},
		},
		"announced again": {
			{"announce", "announcing"},
			{"withdraw", "withdrawn: unfollow drop"},
			{"announce", "announcing"},
			{"placed", "serving"},
		},
		"withdrawn while it is announced": {
			{"announce", "announcing"},
			{"withdraw", "withdrawn: unfollow drop"},
			{"placed", "withdrawn"},
		},
		"a later announcement is not what an earlier one comes to": {
			{"announce", "announcing"},
			{"withdraw", "withdrawn: unfollow drop"},
			{"announce", "announcing"},
			{"earlier placed", "announcing"},
			{"earlier failed", "announcing"},
			{"failed", "withdrawn: unfollow drop"},
		},
		"fails, and another try succeeds": {
			{"announce", "announcing"},
			{"failed", "withdrawn: unfollow drop"},
			{"announce", "announcing"},
			{"placed", "serving"},
		},
		"Announce gives up though the entries were all there for a moment": {
			{"announce", "announcing"},
			{"placed", "serving"},
			{"failed", "withdrawn: unfollow drop"},
		},
		"twice": {
			{"announce", "announcing"},
			{"announce", "the server is announced already"},
			{"placed", "serving"},
			{"announce", "the server is announced already"},
			{"serve", "the server is announced already"},
		},
		"served": {
			{"serve", "announcing"},
			{"placed", "serving"},
			{"end", "draining: unfollow"},
			{"withdraw", "draining: drop"},
			{"drained", "stopped"},
			{"withdraw", "stopped"},
			{"serve", "the server has been served: make another for another listener"},
			{"announce", "the server has been served: make another for another listener"},
		},
		"ends before the entries are in etcd": {
			{"serve", "announcing"},
			{"end", "draining: unfollow"},
			{"placed", "draining"},
			{"failed", "draining"},
			{"announce", "the server is draining"},
			{"serve", "the server is draining"},
		},
		"withdrawn while it serves, which it goes on doing": {
			{"serve", "announcing"},
			{"placed", "serving"},
			{"withdraw", "withdrawn: unfollow drop"},
			{"serve", "the server has been announced before: Serve is for one that has not"},
			{"announce", "announcing"},
			{"withdraw", "withdrawn: unfollow drop"},
			{"end", "draining"},
		},
		"nothing to withdraw": {
			{"withdraw", "idle"},
			{"serve", "announcing"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c core
			for i, rule := range rules {
				if got := c.tell(rule[0]); got != rule[1] {
					t.Errorf("rule %d: on %s: %q, want %q", i, rule[0], got, rule[1])
				}
			}
		})
	}
}

// tell gives the core an event of the present round, or an "earlier" one, and spells the outcome.
func (c *core) tell(text string) string {
	text, earlier := strings.CutPrefix(text, "earlier ")
	round := c.round
	if earlier {
		round--
	}
	on := announce
	for on.String() != text {
		on++
	}
	if on == announce || on == serve {
		if err := c.begin(on); err != nil {
			return err.Error()
		}
		return c.phase.String()
	}
	effects := c.stepRound(round, on)
	said := []string{c.phase.String()}
	if effects != 0 {
		said[0] += ":"
	}
	if effects&unfollow != 0 {
		said = append(said, "unfollow")
	}
	if effects&drop != 0 {
		said = append(said, "drop")
	}
	return strings.Join(said, " ")
}

// Whatever happens, an entry that is in etcd has somebody who will take it out.
func TestEveryPhaseIsLeft(t *testing.T) {
	for p := idle; p <= stopped; p++ {
		var on []string
		for _, tr := range transitions {
			if tr.from == p && tr.to != p {
				on = append(on, tr.on.String())
			}
			if (tr.from == announcing || tr.from == serving) && tr.to == withdrawn && tr.effect != unfollow|drop {
				t.Errorf("%s leaves %s with effect %d", tr.on, tr.from, tr.effect)
			}
		}
		if len(on) == 0 != (p == stopped) {
			t.Errorf("phase %s is left on %v", p, on)
		}
	}
}

var arrow = regexp.MustCompile(`^\s*(\w+) --> (\w+): (\w+)$`)

func TestDiagramShowsTheTransitions(t *testing.T) {
	page, err := os.ReadFile("../../../docs/registration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, diagram, ok := strings.Cut(string(page), "[*] --> idle\n")
	diagram, _, closed := strings.Cut(diagram, "```")
	if !ok || !closed {
		t.Fatal("no diagram that begins in phase idle")
	}
	var drawn []string
	for line := range strings.Lines(diagram) {
		line = strings.TrimRight(line, "\n")
		if parts := arrow.FindStringSubmatch(line); parts != nil {
			drawn = append(drawn, parts[1]+" "+parts[3]+" "+parts[2])
		} else if strings.TrimSpace(line) != "" && !strings.HasSuffix(line, "stopped --> [*]") {
			t.Errorf("cannot read %q", line)
		}
	}
	var made []string
	for _, tr := range transitions {
		made = append(made, fmt.Sprint(tr.from, " ", tr.on, " ", tr.to))
	}
	for _, line := range drawn {
		if !slices.Contains(made, line) {
			t.Errorf("drawn and not made: %s", line)
		}
	}
	for _, line := range made {
		if !slices.Contains(drawn, line) {
			t.Errorf("made and not drawn: %s", line)
		}
	}
}

func TestPublish(t *testing.T) {
	weight := uint32(7)
	version := "v2"
	var c core
	for _, step := range []struct {
		entry Entry
		d     Details
		err   string
	}{
		{published(t, "a.A", "a"), Details{}, ""},
		{published(t, "a.A", "b"), Details{}, "service a.A is published twice"},
		{published(t, "a.B", "a/b"), Details{}, `services a.A and a.B: the key "a/b" is nested under the key "a"`},
		{published(t, "a.B", "a", endpoint.Plain), Details{}, `services a.A and a.B share the key "a" and must agree on the layout: [endpoint_json] and [plain]`},
		{Entry{Key: "a", Layouts: []endpoint.Layout{endpoint.EndpointJSON}, TTL: time.Second, Services: []string{"a.B"}}, Details{}, "must agree on the lease TTL: 15s and 1s"},
		{published(t, "a.B", "a"), Details{Metadata: map[string]string{"zone": "z"}}, `"zone" is reserved`},
		{published(t, "a.B", "a"), Details{Version: &version, Weight: &weight}, ""},
		{published(t, "b.B", "b", endpoint.LeaseSuffix), Details{}, ""},
		{published(t, "b.C", "b2"), Details{}, `the key "b2" continues the key "b", of layout lease_suffix`},
	} {
		err := c.publish(step.entry, step.d)
		if (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Errorf("publish %v at %q: %v, want %q", step.entry.Services, step.entry.Key, err, step.err)
		}
	}
	if got := fmt.Sprint(c.services()); got != "[[a.A a.B] [b.B]]" {
		t.Errorf("published %s", got)
	}
	if ep := c.entries[0].Endpoint; ep.Version != version || ep.Weight != weight {
		t.Errorf("joined: %+v", ep)
	}
	if err := c.begin(announce); err != nil {
		t.Fatal(err)
	}
	if err := c.publish(published(t, "c.C", "c"), Details{}); err == nil || !strings.Contains(err.Error(), "publish first") {
		t.Errorf("published while it is announced: %v", err)
	}
	c.step(withdraw)
	if err := c.publish(published(t, "c.C", "c"), Details{}); err != nil {
		t.Errorf("published after it was withdrawn: %v", err)
	}
}

func TestFault(t *testing.T) {
	var c core
	if c.fault(errors.New("early")) {
		t.Error("before the server is announced is too late")
	}
	c.step(serve)
	if !c.fault(errors.New("late")) {
		t.Error("after the server is announced is not too late")
	}
	if got := errors.Join(c.faults...).Error(); got != "early\nlate" {
		t.Errorf("faults: %q", got)
	}
}

func TestG11_Health(t *testing.T) {
	c := core{entries: []Entry{published(t, "a.A", "a"), published(t, "b.B", "b"), published(t, "c.C", "c")}}
	if err := c.begin(serve); err != nil {
		t.Fatal(err)
	}
	want := func(when string, paused ...bool) {
		t.Helper()
		for i := range c.entries {
			if c.paused(i) != paused[i] {
				t.Errorf("%s: entry %d is paused: %v", when, i, c.paused(i))
			}
		}
	}
	want("nothing is known", false, false, false)
	if !c.hear(c.round, 1, true) {
		t.Error("health is of no use while the server is announced")
	}
	c.firstHealth([]bool{false, false, true})
	want("what was heard since counts for more", true, false, false)
	c.hear(c.round, 2, false)
	want("a service turned unhealthy", true, false, true)
	if c.hear(c.round-1, 0, true) {
		t.Error("an earlier round's health is of use")
	}
	c.step(end)
	if c.hear(c.round, 0, true) {
		t.Error("health is of use while the server drains")
	}
	want("neither changes anything", true, false, true)
}

func TestObserve(t *testing.T) {
	const registering, registered, lost, paused = lease.Registering, lease.Registered, lease.Lost, lease.Paused
	for name, tt := range map[string]struct {
		states     []lease.State
		registered bool
		phase      phase
	}{
		"not all are started":               {[]lease.State{registered}, false, announcing},
		"one is on its way":                 {[]lease.State{registered, registering}, false, announcing},
		"one is lost":                       {[]lease.State{registered, lost}, false, announcing},
		"all are there":                     {[]lease.State{registered, registered}, true, serving},
		"one is paused for its health":      {[]lease.State{paused, registered}, false, serving},
		"one is paused, and healthy by now": {[]lease.State{registered, paused}, false, announcing},
	} {
		c := core{entries: []Entry{published(t, "a.A", "a"), published(t, "b.B", "b")}}
		if err := c.begin(announce); err != nil {
			t.Fatal(err)
		}
		c.hear(c.round, 0, false)
		if got := c.observe(c.round, tt.states); got != tt.registered || c.phase != tt.phase {
			t.Errorf("%s: registered %v in phase %s, want %v in %s", name, got, c.phase, tt.registered, tt.phase)
		}
		if c.observe(c.round+1, tt.states) {
			t.Errorf("%s: another round is registered", name)
		}
		c.step(withdraw)
		if c.observe(c.round, tt.states) || c.phase != withdrawn {
			t.Errorf("%s: registered after it was withdrawn", name)
		}
	}
	var nothing core
	if err := nothing.begin(serve); err != nil || !nothing.observe(nothing.round, nil) || nothing.phase != serving {
		t.Errorf("a server without entries is in phase %s: %v", nothing.phase, err)
	}
}
