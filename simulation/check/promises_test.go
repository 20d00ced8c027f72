package check

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

var began = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

// world returns the history of a calm world with two instances. The first has
// answered the caller at second 8.
func world() *History {
	h := NewHistory(began)
	h.SetCalm(began, true)

	for i, id := range []string{"first", "second"} {
		process := "server " + id
		addr := "10.2.0." + string(rune('1'+i)) + ":9000"
		host := "10.101.0." + string(rune('1'+i))
		h.Hosts[host] = process
		h.Owners[int64(i+1)] = host
		h.Incarnations = append(h.Incarnations,
			&Incarnation{ID: id, Process: process, Addr: addr, Moves: []Move{{began, true}}})

		h.Commit(&etcd.Change{
			At:       began,
			Client:   host,
			Key:      fixtures.ShopKey + "/" + addr,
			Value:    `{"Addr":"` + addr + `"}`,
			Lease:    int64(i + 1),
			Revision: int64(i + 2),
		})
	}

	h.Calls = append(h.Calls, call(8, codes.OK))

	return h
}

// call returns a call to the first instance, whose address the caller knows.
func call(seconds float64, code codes.Code) Call {
	first := []string{"10.2.0.1:9000"}
	c := Call{
		Caller: "caller",
		Conn:   "shop",
		Method: fixtures.Who,
		Plain:  true,
		Begin:  at(seconds),
		End:    at(seconds + 0.01),
		Code:   code,
		Before: first,
		After:  first,
	}
	if code == codes.OK {
		c.From = "first"
	}

	return c
}

// calls returns an event that adds an answered call, after change has modified
// the call.
func calls(change func(c *Call)) func(h *History) {
	c := call(10, codes.OK)
	change(&c)

	return func(h *History) { h.Calls = append(h.Calls, c) }
}

// acts returns an event that adds a call of package runtime at second 1.
func acts(a Act) func(h *History) {
	a.Began = at(1)
	return func(h *History) { h.Acts = append(h.Acts, a) }
}

func TestAlways(t *testing.T) {
	const ours = fixtures.ShopKey + "/10.2.0.1:9000"
	for _, row := range []struct {
		name    string
		happens func(h *History)
		broken  string // the prefix of the one broken promise; "": none
	}{
		{"nothing", func(*History) {}, ""},
		{"a call fails", func(h *History) {
			h.Calls = append(h.Calls, call(10, codes.Unavailable))
		}, "no call fails"},
		{"a call that is refused", func(h *History) {
			h.Calls = append(h.Calls, call(10, codes.Internal))
		}, "no call fails"},
		{"a call fails after its caller has begun again", func(h *History) {
			h.Links = append(h.Links,
				Link{At: at(5), A: "caller", B: "server first", Broken: true},
				Link{At: at(6), A: "caller"})
			h.Calls = append(h.Calls, call(10, codes.Unavailable))
		}, "no call fails"},
		{"a call leaves for another region", calls(func(c *Call) {
			c.From = "away"
			c.Abroad = true
		}), "no call leaves"},
		{"a stopped server answers", func(h *History) {
			h.Incarnations[0].Down = at(9)
			h.Calls = append(h.Calls, call(10, codes.OK))
		}, "a call is answered"},
		{"another instance answers than the target", calls(func(c *Call) {
			c.Target = "shop-1"
		}), "a call is answered"},
		{"more calls fail than under the plain policy", func(h *History) {
			for range mostMore + 1 {
				c := call(10, codes.Unavailable)
				c.Plain = false
				c.Beside = true
				h.Calls = append(h.Calls, c)
			}
		}, "no more calls"},
		{"a call takes too long", calls(func(c *Call) { c.End = at(13) }), "a call ends"},
		{"a call with a target leaves for another region", calls(func(c *Call) {
			c.From = "away"
			c.Abroad = true
			c.Plain = false
			c.Target = "first"
		}), "a call is answered"},
		{"two servers write with one token", func(h *History) {
			h.Writes = append(h.Writes, &Write{Incarnation: "second", Token: 7},
				&Write{Incarnation: "first", Token: 7})
		}, "a store accepts"},
		{"a store refuses a leader", func(h *History) {
			h.Writes = append(h.Writes, &Write{At: at(8), Incarnation: "second", Token: 7},
				&Write{At: at(9), Incarnation: "first", Token: 6, Leads: true})
		}, "a store accepts"},
		{"two servers lead", func(h *History) {
			h.Terms = append(h.Terms, &Term{"first", 5, at(5), at(9)},
				&Term{"second", 6, at(8), time.Time{}})
		}, "one instance leads"},
		{"a server leads without a candidate", func(h *History) {
			h.Commit(&etcd.Change{At: at(4), Key: fixtures.Candidates + "a", Revision: 5})
			h.Terms = append(h.Terms, &Term{"first", 5, at(5), at(9)})

			h.Commit(&etcd.Change{
				At:       at(8),
				Key:      fixtures.Candidates + "a",
				Delete:   true,
				Revision: 6,
			})
		}, "one instance leads"},
		{"a process deletes the key of another process", func(h *History) {
			h.Commit(&etcd.Change{Client: "10.101.0.2", Key: ours, Delete: true})
		}, "no process deletes"},
		{"a process deletes the key that another has put", func(h *History) {
			h.Commit(&etcd.Change{Client: "10.101.0.2", Key: ours, Lease: 2})
			h.Commit(&etcd.Change{Client: "10.101.0.1", Key: ours, Delete: true})
		}, "no process deletes"},
		{"a key changes its owner again and again", func(h *History) {
			for i := range 2 + mostChanges {
				h.Commit(&etcd.Change{
					At:     at(10),
					Client: []string{"10.101.0.1", "10.101.0.2"}[i%2],
					Key:    ours,
					Lease:  int64(1 + i%2),
				})
			}
		}, "processes do not"},
		{"a process sends too many requests", func(h *History) {
			h.Windows = []Window{{Counts: Counts{Requests: mostRequests + 1}}}
		}, "processes send"},
		{"a process logs one line too often", func(h *History) {
			h.Lines = slices.Repeat([]Line{
				{At: at(3), Incarnation: "first", About: "etcd is away"}}, mostAlike+1)
		}, "processes send"},
		{"a line about a failed list in a calm", func(h *History) {
			h.Lines = append(h.Lines, Line{At: at(3), Incarnation: "first", Trouble: true})
		}, "in a calm, no log"},
		{"a call of the runtime hangs", acts(Act{Ended: at(9), Longest: time.Second}),
			"no call of the runtime"},
		{"a call fails in a calm",
			acts(Act{Ended: at(2), Soon: time.Second, Err: errors.New("no")}),
			"in a calm, a call"},
		{"a call takes long in a calm", acts(Act{Ended: at(3), Soon: time.Second}),
			"in a calm, a call"},
		{"a call returns a wrong result",
			acts(Act{Ended: at(2), Soon: time.Second, Wrong: "no entry"}), "in a calm, a call"},
	} {
		h := world()
		row.happens(h)

		problems := h.Broken()
		another := func(p Problem) bool { return !strings.HasPrefix(p.Promise, row.broken) }
		if (len(problems) > 0) != (row.broken != "") || slices.ContainsFunc(problems, another) {
			t.Errorf("%s: broken promises %v, want one with the prefix %q", row.name, problems,
				row.broken)
		}
	}
}

func TestSettled(t *testing.T) {
	const key, addr = fixtures.ShopKey + "/10.2.0.1:9000", "10.2.0.1:9000"
	for _, row := range []struct {
		name   string
		change func(l *Look)
		wrong  int // the index of the broken promise, or -1
	}{
		{"no broken promise", func(*Look) {}, -1},
		{"an entry is missing", func(l *Look) {
			l.Servers[0].Layouts = []string{schedule.EndpointJSON, schedule.GoZero}
		}, 0},
		{"an entry with another version", func(l *Look) {
			l.Entries[1].Value = `{"Addr":"` + addr + `","Metadata":{"version":"v2"}}`
			l.Readers = nil
		}, 0},
		{"an entry too many", func(l *Look) {
			l.Entries = append(l.Entries, etcd.Entry{
				Key:   fixtures.ShopKey + "/a",
				Value: `{"Addr":"` + addr + `"}`,
				Lease: 9,
			})
		}, 0},
		{"an old error", func(l *Look) {
			l.Servers[0].Statuses[0].Err = errors.New("no space")
		}, 1},
		{"another lease", func(l *Look) { l.Servers[0].Statuses[0].LeaseID = 8 }, 1},
		{"a registration too many", func(l *Look) { l.Servers[0].Registrations = 2 }, 1},
		{"two leases", func(l *Look) { l.Servers[0].Leases = []int64{7, 8, 9} }, 2},
		{"a watch without the endpoint", func(l *Look) { l.Readers[0].Watched = nil }, 3},
		{"a list without the endpoint", func(l *Look) { l.Readers[0].Instances = nil }, 3},
		{"a status without the endpoint", func(l *Look) { l.Readers[0].Status.Endpoints = nil }, 3},
		{"a status has another zone", func(l *Look) {
			l.Readers[0].Status.Endpoints[0].Zone = "east"
		}, 3},
		{"a reader has an error", func(l *Look) {
			l.Readers[0].Status.Err = errors.New("no answer")
		}, 3},
		{"a reader holds an endpoint", func(l *Look) { l.Readers[0].Status.Held = 1 }, 3},
		{"a reader has an old config", func(l *Look) {
			l.Readers[0].Status.ServiceConfig = schedule.Drain(addr)
		}, 3},
		{"no leader", func(l *Look) { l.Servers[0].Leads = false }, 4},
		{"a candidate too many", func(l *Look) {
			l.Entries = slices.Insert(l.Entries, 1,
				etcd.Entry{Key: fixtures.Candidates + "b", Value: "b", Lease: 9})
		}, 4},
	} {
		l := Look{
			Entries: []etcd.Entry{
				{Key: fixtures.Candidates + "a", Value: addr, Lease: 7},
				{Key: key, Value: `{"Addr":"` + addr + `"}`, Lease: 7},
			},
			Servers: []Server{{
				ID:      "server 0, incarnation 1",
				Addr:    addr,
				In:      true,
				Elects:  true,
				Leads:   true,
				Layouts: []string{schedule.EndpointJSON},
				Leases:  []int64{7},
				Wants:   map[string]fixtures.Said{fixtures.ShopKey: {Addr: addr, Weight: 1}},
				Statuses: []runtime.Status{
					{Key: fixtures.ShopKey, State: runtime.StateRegistered, LeaseID: 7}},
			}},
			Readers: []Reader{{
				Name:      "caller 0",
				Watched:   []string{addr},
				Instances: []string{addr},
				Status:    runtime.KeyStatus{Endpoints: []runtime.Endpoint{{Addr: addr}}},
			}},
		}

		row.change(&l)

		wrong := l.Wrong()
		another := row.wrong >= 0 && wrong[settled[row.wrong].promise] == ""
		if another || len(wrong) != min(1, row.wrong+1) {
			t.Errorf("%s: broken promises %v, want index %d alone", row.name, wrong, row.wrong)
		}
	}
}
