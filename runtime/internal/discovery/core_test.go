package discovery

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// driven is a core that gets its events as text, and describes the results.
type driven struct {
	*core
	now   time.Time
	items map[string]*item
}

func drive() *driven {
	return &driven{core: newCore(30*time.Second, readTest), now: start, items: map[string]*item{}}
}

// readTest accepts every live config except those that begin with "bad".
func readTest(l liveConfig, now time.Time) (json string, until time.Time, err error) {
	if strings.HasPrefix(l.raw, "bad") {
		return "", until, errors.New("bad")
	}

	if end, ok := strings.CutPrefix(l.raw, "until "); ok {
		after, _ := time.ParseDuration(end)
		until = start.Add(after)
		if !now.Before(until) {
			return "ended", time.Time{}, nil
		}
	}

	return l.raw, until, nil
}

// snapshot returns a snapshot with an entry for each letter. Entries in angle
// brackets are leaving.
func (d *driven) snapshot(letters string) *listwatch.Snapshot[*Backend] {
	s := &listwatch.Snapshot[*Backend]{}
	leaving := false
	for _, name := range strings.Split(letters, "") {
		switch name {
		case "<", ">":
			leaving = name == "<"
		default:
			s.Items = append(s.Items, d.item(name, leaving))
		}
	}

	return s
}

func (d *driven) item(name string, leaving bool) *item {
	id := fmt.Sprint(name, leaving)
	if d.items[id] == nil {
		e := endpoint.Endpoint{Instance: name, Addr: name + ":1"}
		if leaving {
			e.Metadata = map[string]string{"grpc_leaving": "true"}
		}

		d.items[id] = &item{Key: "k/" + name, Value: model.New(e, endpoint.EndpointJSON)}
	}

	return d.items[id]
}

// do passes an event to the core.
func (d *driven) do(event string) effects {
	verb, rest, _ := strings.Cut(event, " ")
	config := func(value ...liveConfig) effects {
		s := &listwatch.Snapshot[liveConfig]{}
		for _, v := range value {
			s.Items = append(s.Items, &listwatch.Item[liveConfig]{Value: v})
		}

		return d.onConfig(listwatch.Update[liveConfig]{Snapshot: s}, d.now)
	}

	switch verb {
	case "join":
		return d.onReaderAdded(d.now)
	case "leave":
		return d.onReaderClosed(d.now)
	case "list":
		return d.onEntries(listwatch.Update[*Backend]{Snapshot: d.snapshot(rest)}, d.now)

	case "lagging":
		s := d.snapshot(rest)
		s.Provisional = true

		return d.onEntries(listwatch.Update[*Backend]{Snapshot: s, Err: errors.New("no leader")},
			d.now)

	case "lost":
		return d.onEntries(listwatch.Update[*Backend]{Err: errors.New(rest)}, d.now)
	case "denied":
		return d.onEntries(listwatch.Update[*Backend]{Err: rpctypes.ErrPermissionDenied}, d.now)
	case "disk":
		names, live, _ := strings.Cut(rest, " ")
		return d.onLoaded(saved{set: set(names), live: live}, d.now)
	case "config":
		return config(liveConfig{raw: rest})
	case "badconfig":
		return config(liveConfig{raw: "bad" + rest})
	case "noconfig":
		return config()
	case "lostconfig":
		return d.onConfig(listwatch.Update[liveConfig]{Err: errors.New("away")}, d.now)
	case "deniedconfig":
		return d.onConfig(listwatch.Update[liveConfig]{Err: rpctypes.ErrPermissionDenied}, d.now)

	case "wait":
		wait, err := time.ParseDuration(rest)
		if err != nil {
			panic(err)
		}

		d.now = d.now.Add(wait)

		return d.tick(d.now)
	}

	panic(event)
}

// describe writes the state and the effects: "ab live=x | save wake=30s".
func (d *driven) describe(e effects) string {
	s := d.state
	var words []string
	word := func(on bool, format string, args ...any) {
		if on {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}

	if s.Known {
		words = append(words, names(s.Backends))
		word(len(s.Backends) == 0, "empty")
	} else {
		words = append(words, "?"+names(s.Backends[:len(s.Endpoints)]))
	}

	var held []string
	for addr := range s.Held {
		held = append(held, strings.TrimSuffix(addr, ":1"))
	}

	slices.Sort(held)
	word(len(held) > 0, "held=%s", strings.Join(held, ""))
	word(len(s.Departed) > 0, "left=%s", names(s.Departed))
	word(s.Provisional, "provisional")
	word(s.Live != "", "live=%s", s.Live)
	word(s.LiveErr != nil, "badlive")
	word(Refused(s.Err), "denied")
	word(s.Err != nil && !Refused(s.Err), "lost")
	words = append(words, "|")
	word(e.changed, "notify")
	word(e.follow, "follow")
	word(e.unfollow, "unfollow")
	word(e.load, "load")
	word(e.save != nil, "save")
	word(e.warn.err != nil, "warn")
	word(!e.wake.IsZero(), "wake=%v", e.wake.Sub(d.now))

	return strings.TrimSuffix(strings.Join(slices.DeleteFunc(words, func(w string) bool {
		return w == ""
	}), " "), " |")
}

// Each line is an event and its result: the state, a bar, and the effects.
func TestCore(t *testing.T) {
	for name, script := range map[string][][2]string{
		"a key is followed while it is read, and a minute longer": {
			{"join", "? | follow"}, {"join", "?"},
			{"noconfig", "? | notify"}, {"list a", "a | notify save"},
			{"leave", "a"}, {"leave", "a | wake=1m0s"}, {"join", "a"}, {"leave", "a | wake=1m0s"},
			{"wait 1m", "a provisional | unfollow"},
			{"join", "? | follow wake=100ms"}, {"noconfig", "? | wake=100ms"}, {"list ab",
				"ab | notify save"},
		},
		"the first endpoints after a pause wait for the config again": {
			{"join", "? | follow"}, {"config x", "? live=x | notify"}, {"list a",
				"a live=x | notify save"}, {"leave", "a live=x | wake=1m0s"},
			{"wait 1m", "a provisional live=x | unfollow"}, {"join",
				"? live=x | follow wake=100ms"}, {"list b", "? live=x | wake=100ms"},
			{"config y", "b live=y | notify save"},
		},
		"the last known endpoints serve after 100 ms, and count as known once etcd fails to answer": {
			{"join", "? | follow"}, {"noconfig", "? | notify"}, {"list ab", "ab | notify save"}, {
				"leave", "ab | wake=1m0s"},
			{"wait 1m", "ab provisional | unfollow"}, {"join", "? | follow wake=100ms"},
			{"wait 100ms", "?ab provisional | notify"}, {"wait 1s", "?ab provisional"}, {
				"lost refused", "ab provisional lost | notify"},
			{"config x", "ab provisional live=x lost | notify"}, {"list b",
				"b live=x | notify save"},
		},
		"a config is checked again when a drain of it ends": {
			{"join", "? | follow"}, {"config until 1m", "? live=until 1m | notify wake=1m0s"}, {
				"list a", "a live=until 1m | notify save wake=1m0s"},
			{"badconfig ", "a live=until 1m | wake=1s"}, {"wait 1s",
				"a live=until 1m badlive | notify warn wake=59s"},
			{"wait 59s", "a live=ended badlive | notify save warn"},
		},
		"a denied config counts as absent": {
			{"join", "? | follow"}, {"list a", "? | wake=200ms"}, {"deniedconfig",
				"a | notify save"},
		},
		"the endpoints wait while etcd does not answer for the config": {
			{"join", "? | follow"}, {"lostconfig", "?"}, {"list a", "? | wake=200ms"},
		},
		"etcd is away: the disk is read once, and its endpoints are used": {
			{"join", "? | follow"}, {"lost refused", "? lost | notify load"}, {"lost refused",
				"? lost"}, {"disk ", "? lost"},
			{"disk ab", "? provisional lost | wake=200ms"}, {"wait 200ms",
				"ab provisional lost | notify"},
			{"noconfig", "ab provisional lost | notify"}, {"list a", "a | notify save"},
		},
		"a config from the disk is used at once, and until etcd has a valid one": {
			{"join", "? | follow"}, {"lost refused", "? lost | notify load"}, {"disk ab x",
				"ab provisional live=x lost | notify"},
			{"badconfig ", "ab provisional live=x badlive lost | notify warn"}, {"config y",
				"ab provisional live=x badlive lost | wake=1s"},
			{"wait 1s", "ab provisional live=y lost | notify"}, {"list a",
				"a live=y | notify save"},
		},
		"a config from the disk does not replace one from etcd": {
			{"join", "? | follow"}, {"noconfig", "? | notify"}, {"lost refused",
				"? lost | notify load"}, {"disk a x", "a provisional lost | notify"},
		},
		"a refusal is an answer: the disk is read once etcd fails to answer": {
			{"join", "? | follow"}, {"noconfig", "? | notify"}, {"denied", "? denied | notify"}, {
				"denied", "? denied"},
			{"lost refused", "? lost | notify load"}, {"disk ab", "ab provisional lost | notify"},
			{"denied", "ab provisional denied | notify"}, {"lost refused",
				"ab provisional lost | notify"}, {"list a", "a | notify save"},
		},
		"known endpoints stay while etcd is away": {
			{"join", "? | follow"}, {"noconfig", "? | notify"}, {"list ab", "ab | notify save"},
			{"lost refused", "ab lost | notify"}, {"lost refused", "ab lost"}, {"list ab",
				"ab | notify"},
		},
		"endpoints from a member without a leader are provisional": {
			{"join", "? | follow"}, {"noconfig", "? | notify"}, {"lagging a",
				"a provisional lost | notify"}, {"list a", "a | notify save"},
		},
		"K3: an endpoint that was marked before the first list is not published": {
			{"join", "? | follow"}, {"list <a>", "? | wake=200ms"}, {"noconfig",
				"empty | notify save"},
		},
		"the endpoints that leave last in order are known for 5 s, or until there are others": {
			{"join", "? | follow"}, {"noconfig", "? | notify"}, {"list abc", "abc | notify save"}, {
				"list <a>bc", "bc | notify save"},
			{"list <bc>", "empty left=bc | notify save wake=5s"}, {"wait 4s",
				"empty left=bc | wake=1s"}, {
				"list ", "empty left=bc | notify wake=1s"}, {"wait 1s", "empty | notify"},
			{"list a", "a | notify save"}, {"list <a>", "empty left=a | notify save wake=5s"}, {
				"wait 5s", "empty | notify"}, {"list ", "empty | notify"},
			{"list b", "b | notify save"},
		},
		"K6: only a deletion deletes a config": {
			{"join", "? | follow"}, {"list a", "? | wake=200ms"}, {"config x",
				"a live=x | notify save"},
			{"badconfig ", "a live=x | wake=1s"}, {"wait 1s", "a live=x badlive | notify warn"}, {
				"badconfig ", "a live=x badlive"},
			{"wait 1s", "a live=x badlive"}, {"badconfig {", "a live=x badlive | warn"},
			{"config x", "a live=x badlive | wake=1s"}, {"wait 1s", "a live=x | notify"}, {
				"noconfig", "a live=x | wake=1s"}, {"wait 1s", "a | notify save"},
		},
		"S8: changes of the config are spaced": {
			{"join", "? | follow"}, {"list a", "? | wake=200ms"}, {"config x",
				"a live=x | notify save"},
			{"config y", "a live=x | wake=1s"}, {"config z", "a live=x | wake=1s"}, {"wait 1s",
				"a live=z | notify save"},
			{"config y", "a live=z | wake=1s"}, {"config z", "a live=z"}, {"wait 1s", "a live=z"}, {
				"config y", "a live=y | notify save"},
		},
		"K5: a config that is deleted while the key is not followed is gone": {
			{"join", "? | follow"}, {"list a", "? | wake=200ms"}, {"config x",
				"a live=x | notify save"}, {"config y", "a live=x | wake=1s"},
			{"leave", "a live=x | wake=1s"}, {"wait 1m", "a provisional live=x | unfollow"},
			{"join", "? live=x | follow wake=100ms"}, {"noconfig", "? | notify wake=100ms"}, {
				"list a", "a | notify save"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := drive()
			for i, line := range script {
				if got := d.describe(d.do(line[0])); got != line[1] {
					t.Fatalf("event %d, %q: the result is %q, want %q", i, line[0], got, line[1])
				}
			}
		})
	}
}

// TestCoreSequence checks that the sequence grows only with changes that matter
// to a call.
func TestCoreSequence(t *testing.T) {
	d := drive()
	for _, step := range []struct {
		event string
		grows bool
	}{
		{"join", false}, {"lost refused", true}, {"lost refused", false}, {"noconfig", true}, {
			"list a", true}, {"list a", false},
		{"lost refused", false}, {"list a", false}, {"config x", true}, {"badconfig {", false}, {
			"list ", true}, {"wait 30s", true},
	} {
		before := d.state.Sequence
		d.do(step.event)

		if grew := d.state.Sequence > before; grew != step.grows {
			t.Errorf("after %q the sequence grew: %v, want %v", step.event, grew, step.grows)
		}
	}
}

// TestCore_NamesOfSharedAddresses looks up instances whose entries share an
// address.
func TestCore_NamesOfSharedAddresses(t *testing.T) {
	c := newCore(0, readTest)
	c.onReaderAdded(start)
	c.onConfig(listwatch.Update[liveConfig]{Snapshot: &listwatch.Snapshot[liveConfig]{}}, start)

	var items []*item
	for _, step := range []struct {
		id, addr string
		layout   endpoint.Layout
		grows    bool
		names    string // what NameOf returns for a, b, x:1 and y:1
	}{
		{"a", "x:1", endpoint.EndpointJSON, true, "a b a y:1"},
		{"b", "x:1", endpoint.EndpointJSON, true, "b b b y:1"},
		{"c", "y:1", endpoint.EndpointJSON, true, "b b b c"},
		{"d", "y:1", endpoint.Plain, true, "b b b c"}, // NameOf knows d from now on
		{"y:1", "y:1", endpoint.GoZero, false, "b b b c"},
	} {
		n := int64(len(items))
		b := model.New(endpoint.Endpoint{Instance: step.id, Addr: step.addr}, step.layout)
		items = append(slices.Clone(items), &item{Key: "k/" + step.id, Value: b, CreateRevision: n})
		before := c.state.Sequence
		c.onEntries(listwatch.Update[*Backend]{Snapshot: &listwatch.Snapshot[*Backend]{Items: items}},
			start)

		var names []string
		for _, id := range []string{"a", "b", "x:1", "y:1"} {
			names = append(names, c.state.NameOf(id))
		}

		got := strings.Join(names, " ")
		if got != step.names || c.state.Sequence > before != step.grows {
			t.Errorf("with %s: the names are %s, want %s; the sequence grew: %v, want %v", step.id,
				got, step.names, c.state.Sequence > before, step.grows)
		}
	}

	if id := c.state.NameOf("d"); id != "c" {
		t.Errorf("NameOf(d) = %s, want c", id)
	}
}

// TestMerger_FollowsChanges compares the set of a merger after each of many
// changes with the set of a new merger.
func TestMerger_FollowsChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	// With 1,000 addresses, endpoints rarely share one. The ids of some
	// endpoints are not in the order of their keys.
	for _, addrs := range []int{1000, 9} {
		var m merger

		entries := make(map[string]*item)
		for range 500 {
			for range random.IntN(4) {
				key := fmt.Sprint("k/", random.IntN(20))
				delete(entries, key)

				if random.IntN(3) > 0 {
					e := endpoint.Endpoint{
						Instance: fmt.Sprint("i", random.IntN(100)),
						Addr:     fmt.Sprint("10.0.0.1:", random.IntN(addrs)),
					}

					entries[key] = &item{Key: key, Value: model.New(e, endpoint.EndpointJSON)}
				}
			}

			items := slices.SortedFunc(maps.Values(entries), func(a, b *item) int {
				return strings.Compare(a.Key, b.Key)
			})
			got, gotNames := m.merge(items)

			want, wantNames := new(merger).merge(items)
			if !slices.Equal(got, want) || !maps.Equal(gotNames, wantNames) {
				t.Fatalf("%d items: the set is %v with names %v, want %v with %v", len(items), got,
					gotNames, want, wantNames)
			}
		}
	}
}
