package harness

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// world is what processes run in, and the record of what happens there.
type world struct {
	plan     schedule.Schedule
	began    time.Time
	etcd     *etcd.Cluster
	network  *network.Network
	rights   *rights
	requests *requests
	election *election
	later    sync.WaitGroup // what is left of killed processes

	temp string // a directory; "": none

	mu      sync.Mutex
	history *check.History
	trace   []byte // a line an event
	down    []int  // by member: how many steps keep it down
}

func newWorld(plan schedule.Schedule, network *network.Network) *world {
	w := &world{plan: plan, network: network, down: make([]int, plan.Members)}
	cluster, err := etcd.New(network, w.memberAddrs())
	must(err)
	w.etcd, w.began = cluster, time.Now()
	w.history = check.NewHistory(w.began)
	w.etcd.OnCommit(func(c etcd.Change) {
		w.note("commit %q %q delete %v by %s", c.Key, c.Value, c.Delete, c.Client)
		w.record(func(h *check.History) { h.Commit(c) })
	})
	w.election = newElection(w)
	w.requests = newRequests(w)
	w.rights = newRights(w)
	return w
}

// record has the history take something in.
func (w *world) record(take func(*check.History)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	take(w.history)
}

// report records what is wrong whenever it is seen.
func (w *world) report(promise, format string, args ...any) {
	w.record(func(h *check.History) { h.See(time.Now(), promise, format, args...) })
}

const (
	// contextOnly is the bound of a call that its context alone bounds.
	contextOnly = time.Hour
	// trips is how many times a call that changes etcd may go there and back.
	trips = 8
)

// acted records a call of the runtime that has ended, which its context bounds and the time that it may take at the longest.
func (w *world) acted(ctx context.Context, longest time.Duration, a check.Act) {
	a.Ended, a.Longest = time.Now(), longest
	if deadline, ok := ctx.Deadline(); ok {
		a.Longest = min(longest, deadline.Sub(a.Began))
	}
	if a.Soon > 0 {
		a.Soon += trips * 2 * w.line()
	}
	w.note("%s of %s: %v", a.What, a.Who, a.Err)
	w.record(func(h *check.History) { h.Acts = append(h.Acts, a) })
}

// note adds a line to the trace.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = fmt.Appendf(w.trace, "%v ", w.now())
	w.trace = fmt.Appendf(w.trace, format+"\n", args...)
}

// now returns how long the world has gone on, as steps count their times.
func (w *world) now() time.Duration { return time.Since(w.began) }

// setCalm notes whether there are no faults from now on, and all is as it should be.
func (w *world) setCalm(calm bool) {
	w.record(func(h *check.History) { h.SetCalm(time.Now(), calm) })
}

// calmSince reports whether that has been so since a moment.
func (w *world) calmSince(at time.Time) (calm bool) {
	w.record(func(h *check.History) { calm = h.CalmSince(at) })
	return calm
}

// setLink sets the link between where a life dials from and a member of etcd, which is as far away as the schedule says.
func (w *world) setLink(from string, member int, l network.Link) {
	l.Delay += w.line()
	w.network.Set(from, w.plan.MemberHost(member), l)
}

// line is how long a message to etcd takes each way, at the least.
func (w *world) line() time.Duration { return time.Duration(w.plan.Line) * time.Millisecond }

func (w *world) memberAddrs() []string {
	var addrs []string
	for i := range w.plan.Members {
		addrs = append(addrs, w.plan.MemberAddr(i))
	}
	return addrs
}

// stopMember stops a member of etcd, until it has been started as often as it was stopped.
func (w *world) stopMember(i int) {
	w.mu.Lock()
	w.down[i]++
	first := w.down[i] == 1
	w.mu.Unlock()
	if first {
		w.etcd.Stop(i)
	}
}

// startMember starts a member that was stopped.
func (w *world) startMember(i int) {
	w.mu.Lock()
	w.down[i]--
	last := w.down[i] == 0
	w.mu.Unlock()
	if last {
		must(w.etcd.Start(i))
	}
}

// reset changes all that etcd has, while every member is down. repeats says whether revisions may repeat then.
func (w *world) reset(down time.Duration, change func() error, repeats bool) {
	for i := range w.plan.Members {
		w.stopMember(i)
	}
	time.Sleep(down)
	must(change())
	entries := slices.Concat(w.etcd.Entries(acme.Leaders), w.etcd.Entries(acme.Prefix))
	w.record(func(h *check.History) { h.Reset(time.Now(), entries, repeats) })
	w.note("reset to revision %d", w.etcd.Revision())
	for i := range w.plan.Members {
		w.startMember(i)
	}
	w.rights.apply() // a backup has the rights of its time
}

// up records that a life of a server takes calls, and is to be in etcd.
func (w *world) up(l *check.Life) {
	l.Moves = []check.Move{{At: time.Now(), In: true}}
	w.record(func(h *check.History) { h.Lives = append(h.Lives, l) })
}

// gone records that a life takes no more calls.
func (w *world) gone(id string, killed bool) {
	w.record(func(h *check.History) {
		l := h.Life(id)
		l.Down, l.Killed = time.Now(), killed
	})
}

// entries returns a look at what etcd has, and at nothing else.
func (w *world) entries() check.Look { return check.Look{Entries: w.etcd.Entries("")} }

// leases returns those leases of the life that dials from a host that etcd has.
func (w *world) leases(from string) []int64 {
	var granted []int64
	w.record(func(h *check.History) {
		for lease, host := range h.Owners {
			if host == from {
				granted = append(granted, lease)
			}
		}
	})
	slices.Sort(granted)
	known := w.etcd.Leases()
	return slices.DeleteFunc(granted, func(lease int64) bool { return !slices.Contains(known, lease) })
}

// must ends the process for a fault of the world's own.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
