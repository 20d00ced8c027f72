package xds

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

// restart replaces the first bridge by a new one at the same address.
func (w *world) restart(opts ...runtime.Option) {
	w.t.Helper()
	w.bridges[0].stop()
	lis, err := net.Listen("tcp", w.bridges[0].addr)
	must(w.t, err)
	w.bridges[0] = w.bridgeAt(lis, w.newRegistry(opts...), w.desc)
}

// told returns when a client has acknowledged routes and endpoints.
func (w *world) told() {
	w.t.Helper()
	kit.Eventually(w.t, 2*soon, "the client reconnects", func() bool {
		return slices.ContainsFunc(w.bridges[0].Status().Clients, func(c xds.Client) bool {
			return len(c.Types) == 4 && c.Types[1].Acked != "" && c.Types[3].Acked != ""
		})
	})
}

// TestNoCallFails makes calls while the fleet changes, or what it stands on fails.
func TestNoCallFails(t *testing.T) {
	atLeast := 2000
	for _, language := range languages(t) {
		for _, tt := range []struct {
			name  string
			event func(w *world, servers *[]*instance)
		}{
			{"a server joins and the oldest drains", func(w *world, servers *[]*instance) {
				*servers = append(*servers, w.add(fmt.Sprint("s", len(*servers)), runtime.WithVersion("v2")))
				(*servers)[len(*servers)-3].stop()
			}},
			{"the bridge is restarted", func(w *world, _ *[]*instance) {
				w.restart()
				w.told()
			}},
			{"policies change", changePolicies()},
			{"etcd is away and back", func(w *world, _ *[]*instance) {
				etcd.Members()[0].Cut()
				w.restart() // has no resources
				kit.Eventually(w.t, 2*soon, "the client reconnects", func() bool { return len(w.bridges[0].Status().Clients) > 0 })
				etcd.Members()[0].Restore()
				w.told()
			}},
		} {
			t.Run(language.name+"/"+tt.name, func(t *testing.T) {
				w := newWorld(t, "")
				servers := []*instance{w.add("s0", runtime.WithVersion("v1")), w.add("s1", runtime.WithVersion("v2"))}
				w.noFailure(language.dial(w, ""), atLeast, 6, func() { tt.event(w, &servers) })
			})
		}
		t.Run(language.name+"/one of two bridges is dead", func(t *testing.T) {
			w := newWorld(t, "")
			w.bridges = append(w.bridges, w.bridge())
			w.add("a")
			c := language.dial(w, "")
			w.noFailure(c, atLeast, 1, func() {
				w.bridges[0].stop()
				w.add("b")
			})
			if language.name == "go" { // others know no fallback; and who knows all that it asks for needs none
				eventually(t, language.dial(w, ""), calls(40), "what the second bridge tells", only("a", "b"))
			}
		})
	}
}

// changePolicies returns an event that puts another policy each time.
func changePolicies() func(w *world, _ *[]*instance) {
	configs := []string{
		policy(halves), `{"loadBalancingConfig":[{"etcd_weighted":{}}]}`, policy(`"route":[{"label":"version"}]`),
		policy(`"split":[{"match":{"version":"v1"},"weight":1}]`), policy(`"drain":["s0"]`), "",
	}
	n := 0
	return func(w *world, _ *[]*instance) {
		settled := w.settled()
		w.set(configs[n%len(configs)])
		n++
		kit.Eventually(w.t, soon, "the client has the policy", settled)
	}
}

// settled returns a condition that holds once clients were told something new and have acknowledged all.
func (w *world) settled() func() bool {
	w.t.Helper()
	reached := w.reached()
	return func() bool {
		_, all := w.acked()
		return all && reached()
	}
}

// reached returns a condition that holds once clients were told something new.
func (w *world) reached() func() bool {
	w.t.Helper()
	var before string
	kit.Eventually(w.t, soon, "clients have acknowledged all", func() (all bool) {
		before, all = w.acked()
		return all
	})
	return func() bool {
		now, all := w.acked()
		return !all || now != before
	}
}

// acked returns the versions that clients have acknowledged, and reports whether they have acknowledged all that they were told.
func (w *world) acked() (versions string, all bool) {
	all = true
	for _, c := range w.bridges[0].Status().Clients {
		for _, t := range c.Types {
			all = all && !t.Pending
			versions += t.Acked + " "
		}
	}
	return versions, all
}

// noFailure fails the test if a call fails while an event happens so many times, and until so many calls were made.
func (w *world) noFailure(c caller, atLeast, times int, event func()) {
	w.t.Helper()
	w.noFailureOf(c, calls(200), atLeast, times, event)
}

// noFailureOf is noFailure for calls as they are ordered. It returns who answered.
func (w *world) noFailureOf(c caller, o order, atLeast, times int, event func()) (by map[string]int) {
	w.t.Helper()
	eventually(w.t, c, o, "calls answered", func(o outcome) bool { return len(o.Errors) == 0 })
	var happened atomic.Bool
	made, failed, slowest := 0, map[string]int{}, 0.0
	by, o.At = map[string]int{}, 8
	done := make(chan struct{})
	go func() {
		defer close(done)
		for made < atLeast || !happened.Load() {
			out := c.call(o)
			for name, n := range out.By {
				made += n
				by[name] += n
			}
			for text, n := range out.Errors {
				made += n
				failed[text] += n
			}
			slowest = max(slowest, out.Most)
		}
	}()
	for range times {
		event()
	}
	happened.Store(true)
	<-done
	if len(failed) > 0 {
		w.t.Errorf("of %d calls fail: %v", made, failed)
	}
	w.t.Logf("%d calls, the slowest took %v", made, time.Duration(slowest*1e6).Round(time.Millisecond))
	return by
}

// A service config that is too large for clients leaves the last one in force, and endpoints still come and go.
func TestServiceConfigTooLarge(t *testing.T) {
	w := newWorld(t, "")
	w.add("a")
	w.add("b")
	w.set(policy(`"drain":["b"]`))
	c := w.goClient("")
	eventually(t, c, calls(20), "b drained", only("a"))
	names := make([]string, 5050)
	for i := range names {
		names[i] = fmt.Sprintf(`{"service":"s%d"}`, i)
	}
	w.set(`{"methodConfig":[{"name":[` + strings.Join(names, ",") + `],"timeout":"1s"}]}`)
	kit.Eventually(t, soon, "it is refused", func() bool {
		err := w.bridges[0].Status().Hosts[0].Err
		return err != nil && strings.Contains(err.Error(), "configure fewer methods")
	})
	w.add("c")
	eventually(t, c, calls(20), "c known and b drained", only("a", "c"))
}
