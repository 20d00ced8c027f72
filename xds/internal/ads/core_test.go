package ads

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds/internal/mapping"
)

// A request with too many names fails. A request with names that do not exist
// gets one empty answer.
func TestCore_RejectsTooManyNames(t *testing.T) {
	var c Core

	none := func(Kind, string) Found { return Found{} }

	names := make([]string, maxNames+1)
	for i := range names {
		names[i] = fmt.Sprint("no.such.", i)
	}

	err := c.Request(Request{Kind: Listeners, Names: names})
	if err == nil || !strings.Contains(err.Error(), "10001 resources") {
		t.Errorf("Request with %d names: %v, want an error with \"10001 resources\"",
			len(names), err)
	}

	must.Succeed(t, c.Request(Request{Kind: Listeners, Names: names[1:]}))

	answers, waits := c.Answers(time.Time{}, none)
	if len(answers) != 1 || len(answers[0].Resources) != 0 || waits {
		t.Fatalf(
			"Answers to names that do not exist: %v, waits %v; want one empty answer, waits false",
			answers, waits)
	}

	if testing.AllocsPerRun(1, func() { Lookup(snapshots[0], Clusters, "a/gone") }) > 2 {
		t.Error("a lookup makes a substitute, want none before it is sent")
	}

	must.Succeed(t, c.Request(Request{Listeners, names[1:], answers[0].Nonce, "", false}))

	if again, _ := c.Answers(time.Time{}, none); again != nil {
		t.Errorf("after the acknowledgement, Answers to names that do not exist: %v, want none",
			again)
	}
}

// Large resources are divided into answers that are small enough for clients.
func TestCore_SplitsLargeAnswers(t *testing.T) {
	find := func(_ Kind, name string) Found {
		return Found{Resource: &mapping.Resource{
			Name: name,
			Hash: 1,
			Body: &anypb.Any{Value: make([]byte, maxAnswer/2)},
		}}
	}

	for k, want := range [kinds]string{
		Clusters:  "abc ",
		Loads:     "ab c ",
		Listeners: "abc ",
		Routes:    "ab c ",
	} {
		var c Core

		got := ""
		for nonce := ""; ; {
			must.Succeed(t,
				c.Request(Request{Kind: Kind(k), Names: []string{"a", "b", "c"}, Nonce: nonce}))

			answers, _ := c.Answers(time.Time{}, find)
			if answers == nil {
				break
			}

			nonce = answers[0].Nonce

			for _, r := range answers[0].Resources {
				got += r.Name
			}

			got += " "
		}

		if got != want {
			t.Errorf("%s: the answers have the resources %q, want %q", Kind(k), got, want)
		}
	}
}

// A client that drops a resource while an answer is in flight, and asks for it
// again, receives it again.
func TestCore_SendsDroppedResourceAgain(t *testing.T) {
	for k := range kinds {
		hash := map[string]uint64{}
		find := func(_ Kind, name string) Found {
			return Found{Resource: &mapping.Resource{Name: name, Hash: hash[name]}}
		}

		var c Core
		ask := func(nonce string, names ...string) (received []string) {
			must.Succeed(t, c.Request(Request{Kind: k, Names: names, Nonce: nonce}))

			answers, _ := c.Answers(time.Time{}, find)
			for _, a := range answers {
				for _, r := range a.Resources {
					received = append(received, r.Name)
				}
			}

			return received
		}

		ask("", "changing", "dropped")
		hash["changing"]++
		ask("1", "changing", "dropped")
		ask("1", "changing")

		received := ask("2", "changing", "dropped")
		if !slices.Contains(received, "dropped") {
			t.Errorf("%s: a client that asks again receives %v, want the dropped resource",
				k, received)
		}

		if received := ask("3", "changing", "dropped"); received != nil {
			t.Errorf("%s: a client that has all resources receives %v, want none", k, received)
		}
	}
}

// A pending resource delays only the first answer to a client that reconnects:
// without the resource in that answer, the client would delete it.
func TestCore_WaitsForPendingResource(t *testing.T) {
	known := map[string]bool{}
	find := func(_ Kind, name string) Found {
		if !known[name] {
			return Found{Pending: true}
		}

		return Found{Resource: &mapping.Resource{Name: name, Hash: 1}}
	}

	var c Core
	receives := func(names ...string) {
		t.Helper()

		answers, _ := c.Answers(time.Time{}, find)
		var got []string
		for _, a := range answers {
			for _, r := range a.Resources {
				got = append(got, r.Name)
			}

			must.Succeed(t,
				c.Request(Request{Clusters, []string{"a", "b", "c"}, a.Nonce, "", false}))
		}

		if !slices.Equal(got, names) {
			t.Errorf("with %v known, the client receives %v, want %v", known, got, names)
		}
	}

	// with the nonce of an earlier stream
	must.Succeed(t, c.Request(Request{Clusters, []string{"a"}, "7", "", true}))
	must.Succeed(t, c.Request(Request{Clusters, []string{"a", "b"}, "7", "", true}))

	known["a"] = true
	receives()

	known["b"] = true
	receives("a", "b") // the client also asks for c
	receives("a", "b") // c is pending, and delays no answer

	known["c"] = true
	receives("a", "b", "c")
	receives()

	clear(known)
	c = Core{}
	must.Succeed(t, c.Request(Request{Kind: Clusters, Names: []string{"a", "b"}}))
	receives()

	known["a"] = true
	receives("a") // the client also asks for c
	receives("a")

	known["b"] = true
	known["c"] = true
	receives("a", "b", "c")
}

// A client that reconnects keeps its routes and endpoints while the server's
// are provisional. Provisional listeners and clusters delay no other resources.
// A new client receives all.
func TestCore_KeepsProvisionalFromReturningClient(t *testing.T) {
	for k := range kinds {
		found := Found{Resource: &mapping.Resource{Name: "a", Hash: 1}, Provisional: true}
		receives := func(returns bool, c *Core) bool {
			must.Succeed(t, c.Request(Request{Kind: k, Names: []string{"a"}, Returns: returns}))
			answers, _ := c.Answers(time.Time{}, func(Kind, string) Found { return found })

			return len(answers) == 1
		}

		back := &Core{kinds: [kinds]subscription{Clusters: {asked: true}}}
		fresh := receives(false, new(Core))

		returning := receives(true, back)
		if !fresh || returning != k.isWhole() {
			t.Errorf("%s: a new client receives provisional resources: %v, want true; a reconnecting one: %v, want %v",
				k, fresh, returning, k.isWhole())
		}

		found.Provisional = false

		if !receives(true, back) {
			t.Errorf("%s: a reconnecting client does not receive the final resources", k)
		}
	}
}

// The id and the zone of a client can be as long as a message. They are cut,
// because sources keep them.
func TestIdentify_CutsLongTexts(t *testing.T) {
	c := new(stream)
	long := strings.Repeat("x", 1<<20)
	c.identify(&corev3.Node{Id: long, Locality: &corev3.Locality{Zone: long}})

	if n := len(c.inputs.ID) + len(c.inputs.Zone); n > 1<<10 {
		t.Errorf("the source receives %d bytes of id and zone, want at most 1 KiB", n)
	}
}

// A client that still has old calls to a cluster receives new routes to the
// cluster only after it has dropped the cluster.
func TestCore_WaitsForDroppedCluster(t *testing.T) {
	w := walked{known: true, state: 2}
	ask := func(k Kind, nonce string, names ...string) (routes []string) {
		must.Succeed(t, w.core.Request(Request{Kind: k, Names: names, Nonce: nonce}))

		answers, _ := w.core.Answers(time.Unix(1000, 0), w.find)
		for _, a := range answers {
			if a.Kind == Routes {
				routes = a.Resources[0].Clusters
			}
		}

		return routes
	}

	split := snapshots[2].Route.Clusters
	ask(Routes, "", "a")

	for _, nonce := range []string{"", "1"} {
		ask(Clusters, nonce, append(split, "a")...)
		ask(Loads, nonce, append(split, "a")...)
	}

	w.state = 0
	before := ask(Routes, "1", "a")

	after := ask(Clusters, "1", split...)
	if before != nil || !slices.Contains(after, "a") {
		t.Errorf("routes to %v before the client has dropped the cluster, want none; to %v afterwards, want \"a\" in them",
			before, after)
	}
}
