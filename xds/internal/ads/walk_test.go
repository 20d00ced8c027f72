package ads

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// walked has the core, and a client that asks for a host as gRPC's clients do:
// first for the listener, then for its routes, then for the clusters in the
// routes, then for the endpoints of the clusters.
type walked struct {
	now   time.Time
	core  Core
	state int  // of the host: an index into snapshots
	known bool // the host was read from etcd

	queue   []Answer // on their way to the client, at most one of each kind
	has     [kinds]map[string]*mapping.Resource
	nonce   [kinds]string // of the last answer that the client has read
	asked   [kinds][]string
	taken   [kinds]bool // the client has accepted an answer of the kind
	routed  []string    // the clusters that calls go to
	late    bool        // time passed while a change of routes waited
	refuses bool        // the client has refused an answer
	broken  string      // the rule that was broken, "" if none
}

// snapshots are the states of the host: one endpoint, two endpoints, two groups
// of a split, one group, and lanes.
var snapshots = func() (all []*mapping.Snapshot) {
	for _, s := range []struct {
		config    string
		endpoints int
	}{
		{"", 1},
		{"", 2},
		{`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v0"},"weight":1},{"match":{"version":"v1"},"weight":1}]}}]}`, 2},
		{`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v1"},"weight":1}]}}]}`, 2},
		{`{"loadBalancingConfig":[{"etcd":{"route":[{"lane":"v1","match":{"version":"v1"}}]}}]}`,
			2},
	} {
		policy, err := mapping.ReadPolicy(s.config)
		if err != nil {
			panic(err)
		}

		host := &mapping.Host{Authority: "a", Services: []mapping.Service{{Policy: policy}}}
		for i := range s.endpoints {
			host.Endpoints = append(host.Endpoints, endpoint.Endpoint{
				Instance: fmt.Sprint(i),
				Addr:     fmt.Sprintf("10.0.0.1:%d", i+1),
				Version:  fmt.Sprint("v", i),
			})
		}

		made, err := mapping.Map(host, mapping.Client{})
		if err != nil {
			panic(err)
		}

		all = append(all, made)
	}

	return all
}()

func (w *walked) find(k Kind, name string) Found {
	if !w.known {
		return Found{Pending: true}
	}

	return Lookup(snapshots[w.state], k, name)
}

// answer makes the core answer.
func (w *walked) answer() {
	answers, _ := w.core.Answers(w.now, w.find)
	w.queue = append(w.queue, answers...)
}

// ask sends requests for the resources that the client needs now. The request
// of kind acked acknowledges the last answer, or refuses it with the reason
// refused.
func (w *walked) ask(acked Kind, refused string) {
	wants := [kinds][]string{Listeners: {"a"}}
	if w.has[Listeners]["a"] != nil {
		wants[Routes] = []string{"a"}
	}

	if routes := w.has[Routes]["a"]; routes != nil {
		wants[Clusters] = routes.Clusters
	}

	for _, name := range wants[Clusters] {
		if w.has[Clusters][name] != nil {
			wants[Loads] = append(wants[Loads], name)
		}
	}

	for k := range kinds {
		if k != acked && slices.Equal(wants[k], w.asked[k]) {
			continue
		}

		w.asked[k] = wants[k]
		maps.DeleteFunc(w.has[k], func(name string, _ *mapping.Resource) bool {
			return !slices.Contains(wants[k], name)
		})

		why := ""
		if k == acked {
			why = refused
		}

		err := w.core.Request(Request{k, wants[k], w.nonce[k], why, w.taken[k]})
		if err != nil {
			w.broken = err.Error()
		}

		w.answer()
	}
}

// read makes the client read an answer, and acknowledge or refuse it.
func (w *walked) read(refuse bool) bool {
	if len(w.queue) == 0 {
		return false
	}

	a := w.queue[0]
	w.queue = w.queue[1:]
	w.nonce[a.Kind] = a.Nonce

	if refuse {
		w.refuses = true
		w.ask(a.Kind, "no")

		return true
	}

	next := make(map[string]*mapping.Resource)
	if !a.Kind.isWhole() {
		maps.Copy(next, w.has[a.Kind])
	}

	for _, r := range a.Resources {
		next[r.Name] = r
	}

	if a.Kind.isWhole() {
		for name := range w.has[a.Kind] {
			if next[name] == nil && slices.Contains(w.asked[a.Kind], name) {
				w.broken = fmt.Sprintf("an answer lacks %s %q, for which the client asks",
					a.Kind, name)
			}
		}
	}

	if a.Kind == Routes {
		w.checkRoutes(next["a"])
	}

	w.has[a.Kind] = next
	w.taken[a.Kind] = true
	w.ask(a.Kind, "")

	return true
}

// checkRoutes sets broken if routes send calls to clusters that the client did
// not know before.
func (w *walked) checkRoutes(next *mapping.Resource) {
	called := calledBy(next)
	last := w.has[Routes]["a"] // before the first routes, calls wait
	checked := last != nil && !w.late && !w.refuses

	for _, name := range called {
		listed := last != nil &&
			slices.Contains(last.Clusters, name) &&
			w.has[Clusters][name] != nil &&
			w.has[Loads][name] != nil

		if checked && !listed && !slices.Contains(w.routed, name) {
			w.broken = fmt.Sprintf("calls go to %q, which was not in the client's earlier routes",
				name)
		}
	}

	w.routed = called
}

// calledBy returns the clusters that routes send calls to, without the clusters
// that only the route of AddUpcoming names.
func calledBy(routes *mapping.Resource) (all []string) {
	config := new(routev3.RouteConfiguration)
	if err := routes.Body.UnmarshalTo(config); err != nil {
		panic(err)
	}

	for _, r := range config.VirtualHosts[0].Routes {
		if r.GetMatch().GetPrefix() == "/etcdrpc.announced/" {
			continue
		}

		for _, c := range r.GetRoute().GetWeightedClusters().GetClusters() {
			all = append(all, c.GetName())
		}
	}

	return all
}

// restart replaces the server, unless the client has no routes. The client
// keeps its resources. Its first requests have the given nonces.
func (w *walked) restart(nonces [kinds]string) bool {
	if !w.taken[Routes] {
		return false
	}

	w.core = Core{}
	w.known = false
	w.queue = nil
	w.nonce = nonces
	w.asked = [kinds][]string{}
	w.ask(kinds, "")

	return true
}

// step does the next step without faults and returns its name, "" if the client
// has all current resources.
func (w *walked) step() string {
	switch {
	case !w.known:
		w.known = true
		w.answer()

		return "etcd answers"

	case w.read(false):
		return "the client reads"
	}

	w.now = w.now.Add(upcomingTime)
	before := len(w.queue)
	w.answer()

	if len(w.queue) > before {
		return "time passes"
	}

	s := snapshots[w.state]
	if !s.Route.Equal(w.has[Routes]["a"]) || !s.Listener.Equal(w.has[Listeners]["a"]) {
		return "the client has old routes"
	}

	for _, name := range s.Route.Clusters {
		if !s.Clusters[name].Equal(w.has[Clusters][name]) ||
			!s.Loads[name].Equal(w.has[Loads][name]) {
			return "the client has an old " + name
		}
	}

	return ""
}

// In every order of events, a client never loses a cluster that it asks for,
// never sends calls to a cluster that it does not know, and has the current
// resources in the end.
func TestWalk(t *testing.T) {
	world := modelcheck.World[walked]{
		Start: func() *walked {
			w := &walked{now: time.Unix(1000, 0)}
			w.ask(kinds, "")

			return w
		},
		Events: []modelcheck.Event[walked]{
			{Name: "etcd answers", Do: func(w *walked) bool {
				if w.known {
					return false
				}

				w.known = true
				w.answer()

				return true
			}},
			{Name: "the host changes", Do: func(w *walked) bool {
				w.state = (w.state + 1) % len(snapshots)
				w.answer()

				return true
			}},
			{Name: "the client reads", Do: func(w *walked) bool { return w.read(false) }},
			{Name: "the client refuses", Do: func(w *walked) bool { return w.read(true) }},
			{Name: "time passes", Do: func(w *walked) bool {
				w.late = w.late || len(w.core.kinds[Routes].upcoming) > 0
				w.now = w.now.Add(upcomingTime)
				w.answer()

				return true
			}},
			{Name: "the server is restarted", Do: func(w *walked) bool {
				return w.restart([kinds]string{})
			}},
			{
				Name: "the server is restarted, and the client keeps its nonces",
				Do:   func(w *walked) bool { return w.restart(w.nonce) },
			},
			{Name: "an old request comes", Do: func(w *walked) bool {
				if w.core.kinds[Clusters].nonce == 0 {
					return false
				}

				err := w.core.Request(Request{Clusters, nil, "0", "", false})
				if err != nil {
					w.broken = err.Error()
				}

				w.answer()

				return true
			}},
		},
		Rules: []modelcheck.Rule[walked]{
			{Name: "the protocol is kept", Broken: func(w *walked) string { return w.broken }},
		},
		Settle: func(w *walked) string {
			if w.refuses {
				return "" // the client keeps older resources
			}

			return w.step()
		},
		Within: 60,
	}

	modelcheck.Walk(t, 20000, 40, world)
}
