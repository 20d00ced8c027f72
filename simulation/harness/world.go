package harness

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// world is a running schedule: etcd, the processes, and the record of events.
type world struct {
	schedule schedule.Schedule
	began    time.Time
	etcd     *etcd.Cluster
	network  *network.Network

	// servers, callers, writers and twins, in the order in which steps number
	// them
	processes []*process

	servers []*server
	twins   []*server // by server: the twin that may take the server's instance id
	callers []*caller
	writers []*writer
	later   sync.WaitGroup // goroutines that may run after the end of an incarnation
	other   *world         // the fallback region of callers, or nil

	changing chan struct{}  // holds a value while rights change
	refused  map[int]string // by process: the right that was revoked

	mu      sync.Mutex
	history *check.History
	trace   []byte               // one event a line
	down    []int                // by member: the number of steps that keep it down
	rules   []*rule              // for requests to etcd
	counts  map[int]check.Counts // by process: its actions in this window
}

func newWorld(spec schedule.Schedule, network *network.Network) *world {
	w := &world{
		schedule: spec,
		network:  network,
		changing: make(chan struct{}, 1),
		refused:  map[int]string{},
		down:     make([]int, spec.Members),
		counts:   map[int]check.Counts{},
	}

	cluster, err := etcd.New(network, w.memberAddrs(), 0)
	must(err)
	w.etcd = cluster
	w.began = time.Now()
	w.history = check.NewHistory(w.began)
	w.etcd.OnCommit(func(c *etcd.Change) {
		w.note("commit %q %q delete %v", c.Key, c.Value, c.Delete)
		w.record(func(h *check.History) { h.Commit(c) })
	})

	w.etcd.Intercept(w.judge)
	w.setRights()

	if spec.Other != nil {
		w.other = newWorld(*spec.Other, network)
	}

	for i, server := range spec.Servers {
		w.servers = append(w.servers, newServer(w, i, server))
	}

	for i, c := range spec.Callers {
		w.callers = append(w.callers, &caller{
			process:   newProcess(w, len(w.servers)+i, c.Parts),
			spec:      c,
			snapshots: newSnapshots(c),
		})
	}

	for i, o := range spec.Writers {
		w.writers = append(w.writers, &writer{
			process: newProcess(w, len(w.servers)+len(w.callers)+i, false),
			spec:    o,
		})
	}

	// twins have the instance ids of the servers
	for i, twin := range spec.Servers {
		twin.Mode = schedule.Register
		twin.Second = false
		twin.Parts = false
		w.twins = append(w.twins, newServer(w, spec.Processes()+i, twin))
	}

	return w
}

// regions returns the world and that of the other region, if there is one.
func (w *world) regions() []*world {
	if w.other == nil {
		return []*world{w}
	}

	return []*world{w, w.other}
}

// allServers returns the servers of all processes.
func (w *world) allServers() []*server {
	var all []*server
	for _, s := range w.servers {
		all = append(all, s.all()...)
	}

	return all
}

// caller returns the caller with an index among all processes.
func (w *world) caller(i int) *caller {
	return w.callers[i-len(w.servers)]
}

// writer returns the writer with an index among all processes.
func (w *world) writer(i int) *writer {
	return w.writers[i-len(w.servers)-len(w.callers)]
}

// addressOf returns the address of an incarnation of either region, or "".
func (w *world) addressOf(id string) (addr string) {
	for _, region := range w.regions() {
		region.record(func(h *check.History) {
			if l := h.Incarnation(id); l != nil {
				addr = l.Addr
			}
		})
	}

	return addr
}

// record calls take with the history, with mu held.
func (w *world) record(take func(*check.History)) {
	w.mu.Lock()
	defer w.mu.Unlock()

	take(w.history)
}

// report records a problem that happens now.
func (w *world) report(promise, format string, args ...any) {
	w.record(func(h *check.History) { h.See(time.Now(), promise, format, args...) })
}

// trips bounds the round trips of a call that changes etcd.
const trips = 8

// act makes a call of package runtime and records it as a. A call that outlasts
// a.Longest or the deadline of ctx breaks a promise. If wrong is not nil, act
// calls it afterwards, to describe how etcd differs from the call's result.
func (w *world) act(
	ctx context.Context,
	a check.Act,
	call func(context.Context) error,
	wrong func() string,
) error {
	a.Began = time.Now()
	a.Err = call(ctx)

	if wrong != nil {
		a.Wrong = wrong()
	}

	w.acted(ctx, a)

	return a.Err
}

// acted records a call of package runtime that has ended.
func (w *world) acted(ctx context.Context, a check.Act) {
	a.Ended = time.Now()

	deadline, ok := ctx.Deadline()
	if ok && (a.Longest == 0 || deadline.Sub(a.Began) < a.Longest) {
		a.Longest = deadline.Sub(a.Began)
	}

	if a.Soon > 0 {
		a.Soon += trips * 2 * w.line()
	}

	w.note("%s of %s: %v", a.What, a.Who, a.Err)
	w.record(func(h *check.History) { h.Acts = append(h.Acts, a) })
}

// count counts an action of a process.
func (w *world) count(process int, add func(*check.Counts)) {
	w.mu.Lock()
	defer w.mu.Unlock()

	counts := w.counts[process]
	add(&counts)
	w.counts[process] = counts
}

// note adds a line to the trace.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.trace = fmt.Appendf(w.trace, "%v ", w.now())
	w.trace = fmt.Appendf(w.trace, format+"\n", args...)
}

// now returns the time since the start of the world.
func (w *world) now() time.Duration {
	return time.Since(w.began)
}

// setCalm records whether the world is calm from now on, without faults or
// broken promises.
func (w *world) setCalm(calm bool) {
	w.record(func(h *check.History) { h.SetCalm(time.Now(), calm) })
}

// calmSince reports whether the world has been calm since a moment.
func (w *world) calmSince(at time.Time) (calm bool) {
	w.record(func(h *check.History) { calm = h.Calm(at, time.Now()) })
	return calm
}

// setLink sets the link between an incarnation's dialing host and a member of
// etcd, and adds the delay of the schedule.
func (w *world) setLink(from string, member int, l network.Link) {
	l.Delay += w.line()
	w.network.Set(from, w.schedule.MemberHost(member), l)
}

// setLine sets the links between an incarnation's dialing host and all members
// of etcd.
func (w *world) setLine(from string, l network.Link) {
	for i := range w.schedule.Members {
		w.setLink(from, i, l)
	}
}

// line is the minimum delay of a message to etcd, each way.
func (w *world) line() time.Duration {
	return time.Duration(w.schedule.Line) * time.Millisecond
}

func (w *world) memberAddrs() []string {
	var addrs []string
	for i := range w.schedule.Members {
		addrs = append(addrs, w.schedule.MemberHost(i)+":2379")
	}

	return addrs
}

// stopMember stops a member of etcd. The member runs again once start was
// called for each call of stopMember.
func (w *world) stopMember(i int) (start func()) {
	if w.keepDown(i, 1) == 1 {
		w.etcd.Stop(i)
	}

	return func() {
		if w.keepDown(i, -1) == 0 {
			must(w.etcd.Start(i))
		}
	}
}

// keepDown adds more, which may be negative, to the number of steps that keep a
// member down, and returns the sum.
func (w *world) keepDown(i, more int) int {
	w.mu.Lock()
	defer w.mu.Unlock()

	w.down[i] += more

	return w.down[i]
}

// reset replaces the data of etcd while all members are down. repeats reports
// whether etcd may assign earlier revisions again.
func (w *world) reset(down time.Duration, change func() error, repeats bool) {
	var starts []func()
	for i := range w.schedule.Members {
		starts = append(starts, w.stopMember(i))
	}

	time.Sleep(down)
	must(change())

	entries := slices.Concat(w.etcd.Entries(fixtures.Leaders),
		w.etcd.Entries(fixtures.Prefix))
	w.record(func(h *check.History) {
		h.Resets = append(h.Resets, check.Reset{
			At:      time.Now(),
			After:   len(h.Changes),
			Entries: entries,
			Repeats: repeats,
		})
	})

	w.note("reset to revision %d", w.etcd.Revision())

	for _, start := range starts {
		start()
	}

	w.setRights() // the backup may have other rights
}

// up records that an incarnation of a server accepts calls, and should be in
// etcd.
func (w *world) up(l *check.Incarnation) {
	l.Moves = []check.Move{{At: time.Now(), In: true}}
	w.record(func(h *check.History) { h.Incarnations = append(h.Incarnations, l) })
}

// gone records that an incarnation accepts no more calls.
func (w *world) gone(id string, killed bool) {
	w.record(func(h *check.History) {
		l := h.Incarnation(id)
		l.Down = time.Now()
		l.Killed = killed
	})
}

// entries returns a Look that has only the entries of etcd.
func (w *world) entries() check.Look {
	return check.Look{Entries: w.etcd.Entries("")}
}

// leases returns the leases in etcd that were granted to the incarnation that
// dials from a host.
func (w *world) leases(from string) []int64 {
	leases := w.etcd.Leases()
	w.record(func(h *check.History) {
		leases = slices.DeleteFunc(leases, func(lease int64) bool {
			return h.Owners[lease] != from
		})
	})

	slices.Sort(leases)

	return leases
}

// pause waits for a time or until ctx ends, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}

	return ctx.Err() == nil
}

// must panics on an error of the simulation itself.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
