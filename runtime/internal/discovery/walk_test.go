package discovery

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// walked is the core of a key, with the content of etcd and of the disk, and
// with what the core has seen of both.
type walked struct {
	now  time.Time
	core *core
	wake time.Time // when tick is due
	rev  int64

	truth   map[string]*item // the entries in etcd, by name
	passed  map[string]*item // the entries last passed to the core, by name
	removed []*item          // entries removed from etcd since then
	config  *liveConfig      // the config last passed to the core; may be nil

	following bool
	loading   bool             // the disk is being read, and no entries come from etcd
	disk      string           // the content last written to disk
	state     *State           // the core's state after the last event
	seen      *State           // the last state that readers were notified of
	marked    map[string]*item // by key: the marked entries, as passed to the core
	orderly   map[string]bool  // the withdrawn addresses
	heldSince map[string]time.Time
	knownAt   time.Time // when the first endpoints came after following began; zero before
	broken    modelcheck.Verdict
}

// walkedEntries are the entries in the walks, by name: their layouts, addresses
// and leases.
var walkedEntries = map[string]struct {
	layout endpoint.Layout
	addr   string
	lease  int64
}{
	"a": {endpoint.EndpointJSON, "a:1", 1},
	"b": {endpoint.EndpointJSON, "b:1", 2},
	"c": {endpoint.EndpointJSON, "c:1", 3},
	"p": {endpoint.GoZero, "a:1", 1},       // the same server as a, without room for a mark
	"n": {endpoint.EndpointJSON, "a:1", 4}, // another server at a's address
}

// walkedBackends are the backends of entries, by name and mark.
var walkedBackends = func() map[string]*Backend {
	all := make(map[string]*Backend)
	for name, e := range walkedEntries {
		ep := endpoint.Endpoint{Instance: name, Addr: e.addr}
		all[name] = model.New(ep, e.layout)
		all[name+" leaving"] = model.New(ep.WithLeaving(), e.layout)
		all[name+" on disk"] = model.New(ep, e.layout)
		ep.Addr = "x:1"
		all[name+" elsewhere"] = model.New(ep, e.layout)
	}

	return all
}()

func startWalk() *walked {
	w := &walked{
		now:       start,
		core:      newCore(30*time.Second, readTest),
		truth:     map[string]*item{},
		passed:    map[string]*item{},
		marked:    map[string]*item{},
		orderly:   map[string]bool{},
		heldSince: map[string]time.Time{},
		disk:      "?",
	}

	w.state = w.core.state
	w.seen = w.core.state

	return w
}

// startRead returns a walk with a reader and known endpoints.
func startRead(names ...string) *walked {
	w := startWalk()
	w.take(w.core.onReaderAdded(w.now))
	w.configure()

	for _, name := range names {
		w.put(name)
	}

	w.sync()

	return w
}

// take applies effects.
func (w *walked) take(e effects) bool {
	if e.follow && w.following || e.unfollow && (!w.following || w.core.readers > 0) {
		w.broken.Record("a key is followed twice, or not while it has readers: %+v", e)
	}

	s := w.core.state
	before := w.state
	w.state = s

	if before.Live != "" && s.Live == "" && w.config != nil {
		w.broken.Record("K6: a config is gone without a deletion: %s, and etcd has %v",
			before.Live, w.config)
	}

	vanished := w.following &&
		before.Known &&
		len(before.Backends) > 0 &&
		len(before.Held) == 0 &&
		len(s.Backends) == 0

	w.following = w.following && !e.unfollow || e.follow
	w.loading = w.loading || e.load
	w.wake = e.wake

	if e.changed || e.follow || w.core.readers == 0 {
		w.seen = s // a new reader reads the state without a notification
	}

	if e.save != nil {
		w.disk = names(e.save.set) + " " + e.save.live
	}

	if e.unfollow {
		clear(w.marked)
		clear(w.orderly)
		clear(w.heldSince)
		w.knownAt = time.Time{}
		w.loading = false
	}

	for _, b := range before.Backends {
		if vanished && !w.orderly[b.Endpoint.Addr] {
			w.broken.Record(
				"a published endpoint vanishes at once, and its owner has not withdrawn it: %s",
				b.Endpoint.Addr)
		}
	}

	for addr := range w.heldSince {
		if _, held := s.Held[addr]; !held {
			delete(w.heldSince, addr)
		}
	}

	for addr := range s.Held {
		if _, known := w.heldSince[addr]; !known {
			w.heldSince[addr] = w.now
		}
	}

	if w.core.truth.known && w.following && w.knownAt.IsZero() {
		w.knownAt = w.now
	}

	return true
}

// put puts an entry without a mark.
func (w *walked) put(name string) bool {
	return w.write(name, walkedBackends[name])
}

func (w *walked) mark(name string) bool {
	return w.truth[name] != nil && w.write(name, walkedBackends[name+" leaving"])
}

// overwrite replaces the address in an entry.
func (w *walked) overwrite(name string) bool {
	return w.truth[name] != nil && w.write(name, walkedBackends[name+" elsewhere"])
}

func (w *walked) write(name string, value *Backend) bool {
	old := w.truth[name]
	if old != nil && old.Value == value {
		return false
	}

	w.rev++
	now := &item{
		Key:            "k/" + name,
		Value:          value,
		Lease:          walkedEntries[name].lease,
		CreateRevision: w.rev,
		ModRevision:    w.rev,
	}
	if old != nil {
		now.CreateRevision = old.CreateRevision
	}

	w.truth[name] = now

	return true
}

func (w *walked) remove(name string) bool {
	old := w.truth[name]
	if old == nil {
		return false
	}

	if _, passed := w.passed[name]; passed {
		w.removed = append(w.removed, old)
	}

	delete(w.truth, name)

	return true
}

// sync passes the changes in etcd to the core, as a watch does.
func (w *walked) sync() bool {
	if !w.following || w.loading || maps.Equal(w.truth, w.passed) &&
		w.core.state.Err == nil &&
		w.core.truth.known &&
		!w.core.state.Provisional {
		return false
	}

	w.noteWithdrawn(w.removed)
	s := &listwatch.Snapshot[*Backend]{Removed: w.removed, Items: sorted(w.truth)}
	w.passed = maps.Clone(w.truth)
	w.removed = nil

	return w.take(w.core.onEntries(listwatch.Update[*Backend]{Snapshot: s}, w.now))
}

// list passes the content of etcd to the core, as a list does: without the last
// values of removed entries.
func (w *walked) list() bool {
	watched := w.removed

	w.removed = nil
	for name, old := range w.passed {
		if now := w.truth[name]; now == nil {
			w.removed = append(w.removed, old)
		}
	}

	slices.SortFunc(w.removed, func(a, b *item) int { return strings.Compare(a.Key, b.Key) })

	if !w.sync() {
		w.removed = watched
		return false
	}

	return true
}

// noteWithdrawn updates the withdrawn addresses. An address is withdrawn if a
// mark covers all of its entries: a mark covers entries at its address that
// have its lease and are not newer.
func (w *walked) noteWithdrawn(removed []*item) {
	for _, i := range slices.Concat(removed, sorted(w.truth)) {
		addr := i.Value.Endpoint.Addr

		old, known := w.marked[i.Key]
		switch {
		case !i.Value.Leaving:
			delete(w.marked, i.Key)
			w.orderly[addr] = false
		case !known || old.ModRevision < i.CreateRevision:
			w.marked[i.Key] = i
		}
	}

	for key, m := range w.marked {
		addr := m.Value.Endpoint.Addr
		covers := false
		others := false
		for _, i := range w.truth {
			if i.Value.Endpoint.Addr == addr {
				covered := i.Lease == m.Lease && i.CreateRevision <= m.ModRevision
				covers = covers || covered
				others = others || !covered
			}
		}

		w.orderly[addr] = !others

		if !covers {
			delete(w.marked, key)
		}
	}
}

func sorted(items map[string]*item) []*item {
	var all []*item
	for _, name := range slices.Sorted(maps.Keys(items)) {
		all = append(all, items[name])
	}

	return all
}

// configure passes a live config to the core.
func (w *walked) configure(value ...string) bool {
	if !w.following {
		return false
	}

	s := &listwatch.Snapshot[liveConfig]{}
	w.config = nil
	for _, v := range value {
		w.config = &liveConfig{raw: v}
		s.Items = append(s.Items, &listwatch.Item[liveConfig]{Value: *w.config})
	}

	return w.take(w.core.onConfig(listwatch.Update[liveConfig]{Snapshot: s}, w.now))
}

func (w *walked) fail(err error) bool {
	return w.following &&
		!w.loading &&
		w.take(w.core.onEntries(listwatch.Update[*Backend]{Err: err}, w.now))
}

// load passes the content of the disk to the core.
func (w *walked) load() bool {
	if !w.loading {
		return false
	}

	w.loading = false

	return w.take(w.core.onLoaded(saved{
		set:  []*Backend{walkedBackends["a on disk"], walkedBackends["b on disk"]},
		live: "x",
	}, w.now))
}

// pass lets time pass, with ticks when they are due.
func (w *walked) pass(d time.Duration) bool {
	for end := w.now.Add(d); ; {
		if w.wake.IsZero() || w.wake.After(end) {
			w.now = end
			return true
		}

		w.now = w.wake
		w.take(w.core.tick(w.now))
	}
}

// settle takes one step toward rest, and returns its name. The step passes the
// content of etcd to the core, or lets time pass.
func (w *walked) settle() string {
	s := w.core.state
	switch {
	case w.core.readers == 0 && !w.following:
		return ""
	case w.load():
		return "the disk is read"
	case w.sync():
		return "etcd sends the entries"
	case w.config == nil && s.Live != "" && w.core.config.due().IsZero(): // the config is from the disk
		w.configure()
		return "etcd sends the config"
	case len(s.Held) > 0 || !w.core.config.due().IsZero() || !s.Known && w.core.truth.known:
		w.pass(w.wake.Sub(w.now))
		return "time passes"
	}

	want := map[string]bool{}
	for _, i := range w.truth {
		if addr := i.Value.Endpoint.Addr; !i.Value.Leaving && !w.orderly[addr] {
			want[addr] = true
		}
	}

	got := map[string]bool{}
	for _, b := range s.Backends {
		got[b.Endpoint.Addr] = true
	}

	switch {
	case !maps.Equal(got, want):
		return fmt.Sprintf("stuck with the addresses %v, want %v", got, want)
	case s.LiveKnown && w.config == nil && s.Live != "", w.config != nil &&
		!strings.HasPrefix(w.config.raw, "bad") &&
		s.Live != w.config.raw:
		return fmt.Sprintf("stuck with the config %q, want %v", s.Live, w.config)

	case s.Err != nil || s.Provisional && w.following && w.core.readers > 0:
		return "stuck with an error or provisional endpoints"
	}

	return ""
}

// shown returns the part of a state that a reader sees.
func shown(s *State) string {
	return fmt.Sprint(s.Known, names(s.Backends), slices.Sorted(maps.Keys(s.Held)),
		names(s.Departed), s.Live, s.LiveKnown, s.Err)
}

var keyRules = []modelcheck.Rule[walked]{
	{Name: "events are handled", Broken: func(w *walked) string { return string(w.broken) }},
	{Name: "K3: a withdrawn endpoint is not published", Broken: func(w *walked) string {
		for _, b := range w.core.state.Backends {
			if w.orderly[b.Endpoint.Addr] {
				return b.Endpoint.Addr
			}
		}

		return ""
	}},
	{Name: "an address has one endpoint", Broken: func(w *walked) string {
		addrs := make(map[string]bool)
		for _, b := range w.core.state.Backends {
			addrs[b.Endpoint.Addr] = true
		}

		if all := w.core.state.Backends; len(addrs) < len(all) {
			return names(all)
		}

		return ""
	}},
	{Name: "a hold ends", Broken: func(w *walked) string {
		for addr, since := range w.heldSince {
			if w.now.Sub(since) >= 30*time.Second {
				return fmt.Sprintf("%s is held for %v", addr, w.now.Sub(since))
			}
		}

		return ""
	}},
	{Name: "K1: readers are notified of each change that they see", Broken: func(w *walked) string {
		if seen, current := shown(w.seen), shown(w.core.state); seen != current {
			return fmt.Sprintf("the readers saw %s, and the state is %s", seen, current)
		}

		return ""
	}},
	{
		Name: "an endpoint in etcd is published, and not as a held one",
		Broken: func(w *walked) string {
			s := w.core.state
			if !s.Known || !w.following {
				return ""
			}

			for name, i := range w.passed {
				addr := i.Value.Endpoint.Addr
				has := slices.ContainsFunc(s.Backends, func(b *Backend) bool {
					return b.Endpoint.Addr == addr
				})
				_, held := s.Held[addr]
				if !i.Value.Leaving &&
					!w.orderly[addr] &&
					(!has || held) &&
					w.core.truth.known &&
					!w.core.state.Provisional {
					return fmt.Sprintf("the endpoint of entry %s is missing or held", name)
				}
			}

			return ""
		}},
	{Name: "an instance in etcd is not held at another address", Broken: func(w *walked) string {
		for _, b := range w.core.state.Backends {
			_, held := w.core.state.Held[b.Endpoint.Addr]
			i, has := w.passed[b.Endpoint.Instance] // an entry's name is its instance
			if held &&
				has &&
				!i.Value.Leaving &&
				!w.orderly[i.Value.Endpoint.Addr] &&
				w.core.truth.known &&
				!w.core.state.Provisional {
				return fmt.Sprintf("%s is held at %s, and etcd has it at %s", b.Endpoint.Instance,
					b.Endpoint.Addr, i.Value.Endpoint.Addr)
			}
		}

		return ""
	}},
	{Name: "the disk has the known endpoints", Broken: func(w *walked) string {
		s := w.core.state
		if s.Known && !s.Provisional && w.disk != names(s.Backends)+" "+s.Live {
			return fmt.Sprintf("the disk has %q, want %q and %q", w.disk, names(s.Backends), s.Live)
		}

		return ""
	}},
	{Name: "the first endpoints wait for the config, not for long", Broken: func(w *walked) string {
		if w.following &&
			!w.knownAt.IsZero() &&
			w.now.Sub(w.knownAt) >= configGrace &&
			!w.core.state.Known {
			return "the endpoints still wait for the config"
		}

		return ""
	}},
}

var keyEvents = []modelcheck.Event[walked]{
	{Name: "a is put", Do: func(w *walked) bool { return w.put("a") }},
	{Name: "a is marked", Do: func(w *walked) bool { return w.mark("a") }},
	{Name: "a is deleted", Do: func(w *walked) bool { return w.remove("a") }},
	{Name: "b is put", Do: func(w *walked) bool { return w.put("b") }},
	{Name: "b is marked", Do: func(w *walked) bool { return w.mark("b") }},
	{Name: "b is deleted", Do: func(w *walked) bool { return w.remove("b") }},
	{Name: "c is put", Do: func(w *walked) bool { return w.put("c") }},
	{Name: "c is deleted", Do: func(w *walked) bool { return w.remove("c") }},
	{Name: "a's plain entry is put", Do: func(w *walked) bool { return w.put("p") }},
	{Name: "a's plain entry names another address", Do: func(w *walked) bool {
		return w.overwrite("p")
	}},
	{Name: "a's plain entry is deleted", Do: func(w *walked) bool { return w.remove("p") }},
	{Name: "another is put at a's address", Do: func(w *walked) bool { return w.put("n") }},
	{Name: "another at a's address is deleted", Do: func(w *walked) bool { return w.remove("n") }},
	{Name: "the watch sends changes", Do: (*walked).sync},
	{Name: "a list is answered", Do: (*walked).list},
	{Name: "etcd is away", Do: func(w *walked) bool { return w.fail(errors.New("away")) }},
	{Name: "etcd denies it", Do: func(w *walked) bool {
		return w.fail(rpctypes.ErrPermissionDenied)
	}},
	{Name: "the disk has a and b", Do: (*walked).load},

	{Name: "config x", Do: func(w *walked) bool { return w.configure("x") }},
	{Name: "config y", Do: func(w *walked) bool { return w.configure("y") }},
	{Name: "a bad config", Do: func(w *walked) bool { return w.configure("bad") }},
	{Name: "no config", Do: func(w *walked) bool { return w.configure() }},
	{Name: "the config is denied", Do: func(w *walked) bool {
		return w.following && w.take(w.core.onConfig(listwatch.Update[liveConfig]{
			Err: rpctypes.ErrPermissionDenied,
		}, w.now))
	}},
	{Name: "the config is away", Do: func(w *walked) bool {
		return w.following &&
			w.take(w.core.onConfig(listwatch.Update[liveConfig]{Err: errors.New("away")}, w.now))
	}},

	{Name: "a reader joins", Do: func(w *walked) bool {
		return w.core.readers < 2 && w.take(w.core.onReaderAdded(w.now))
	}},
	{Name: "a reader leaves", Do: func(w *walked) bool {
		return w.core.readers > 0 && w.take(w.core.onReaderClosed(w.now))
	}},
	{Name: "the next tick comes", Do: func(w *walked) bool {
		return !w.wake.IsZero() && w.pass(w.wake.Sub(w.now))
	}},
	{Name: "a second passes", Do: func(w *walked) bool { return w.pass(time.Second) }},
	{Name: "10 s pass", Do: func(w *walked) bool { return w.pass(10 * time.Second) }},
}

func TestWalk(t *testing.T) {
	walk := func(name string, start func() *walked, events ...string) {
		w := modelcheck.World[walked]{
			Start:  start,
			Rules:  keyRules,
			Settle: (*walked).settle,
			Within: 20,
		}
		for _, name := range events {
			w.Events = append(w.Events, keyEvents[slices.IndexFunc(keyEvents,
				func(e modelcheck.Event[walked]) bool { return e.Name == name })])
		}

		t.Run(name, func(t *testing.T) { modelcheck.Walk(t, 10000, 24, w) })
	}

	reading := func(names ...string) func() *walked {
		return func() *walked { return startRead(names...) }
	}
	walk("endpoints come and go", reading("a", "b", "c"), "a is put", "a is marked", "a is deleted",
		"b is put", "b is marked", "b is deleted", "c is put", "c is deleted",
		"the watch sends changes",
		"a list is answered",
		"etcd is away",
		"a second passes",
		"10 s pass",
		"the next tick comes")

	walk("K3: a mark, and a layout without marks", reading("a", "p", "b"), "a is put",
		"a is marked", "a is deleted", "a's plain entry is put", "a's plain entry is deleted",
		"b is deleted", "the watch sends changes", "a list is answered", "10 s pass")

	walk("K3: another comes to the address of a marked one", reading("a", "b"), "a is put",
		"a is marked", "a is deleted", "another is put at a's address",
		"another at a's address is deleted", "a's plain entry is put", "the watch sends changes",
		"a list is answered", "10 s pass")

	walk("K3: another shares the address of a marked one", reading("a", "n"), "a is put",
		"a is marked", "a is deleted", "another is put at a's address",
		"another at a's address is deleted", "a's plain entry is put", "the watch sends changes",
		"a list is answered", "10 s pass")

	walk("an entry names another address for a while", func() *walked {
		w := startRead("a", "p")
		w.overwrite("p")
		w.sync()

		return w
	}, "a is put", "a is deleted", "a's plain entry is put",
		"a's plain entry names another address",
		"a's plain entry is deleted",
		"the watch sends changes", "a list is answered", "10 s pass")

	walk("readers, the config and the disk", startWalk, "a reader joins", "a reader leaves",
		"a is put",
		"a is marked",
		"a is deleted",
		"the watch sends changes",
		"etcd is away", "etcd denies it", "the disk has a and b", "config x", "config y",
		"a bad config",
		"no config",
		"the config is denied",
		"the config is away", "a second passes", "the next tick comes")
}
