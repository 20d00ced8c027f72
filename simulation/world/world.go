// Package world carries out a schedule: an etcd cluster, servers, callers and operators on a network in memory, all on the
// clock of a testing/synctest bubble. It goes through the public API alone, and notes what it sees for package check.
package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// World is a schedule under way.
type World struct {
	plan    schedule.Schedule
	began   time.Time
	network *network.Network
	etcd    *etcd.Cluster
	rights  *rights
	rules   *rules
	servers []*server
	twins   []*server // by server: who takes its instance id
	callers []*caller
	writers []*writer
	ghosts  sync.WaitGroup // what is left of killed processes

	mu      sync.Mutex
	judge   *check.Judge
	commits []etcd.Change        // all, in order
	resets  []time.Time          // when etcd was restored or wiped
	noted   map[string]bool      // the keys of entries that the judge has heard of
	deaf    map[string]time.Time // by where a life dials from: since when it cannot hear from etcd
	down    []int                // by member: how many steps keep it down
	polls   polls
	leases  leases
	trace   []byte // a line an event
}

// Result is the outcome of a schedule.
type Result struct {
	Problems []check.Problem
	Virtual  time.Duration // how long it took in the world
	Trace    []byte        // the events, one a line, for replays to compare
	Calls    int
}

// Run carries out a schedule, and returns when nothing of it is left. It must run in a testing/synctest bubble.
func Run(ctx context.Context, plan schedule.Schedule) Result {
	w := &World{
		plan:    plan,
		began:   time.Now(),
		network: network.New(),
		etcd:    etcd.New(plan.Members),
		judge:   check.New(time.Now()),
		noted:   make(map[string]bool),
		leases:  newLeases(),
		deaf:    make(map[string]time.Time),
		down:    make([]int, plan.Members),
		polls:   newPolls(),
	}
	watchdog := time.AfterFunc(longest, w.hangs)
	defer watchdog.Stop()
	w.rules = newRules(w)
	w.rights = newRights(w)
	w.etcd.OnCommit(w.committed)
	for i := range plan.Members {
		w.serveMember(i)
	}
	w.populate(ctx)
	watched := w.watchOver(ctx)
	w.carryOut(ctx)
	w.settle(ctx)
	watched()
	w.tearDown(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	return Result{Problems: w.judge.Problems, Virtual: time.Since(w.began), Trace: w.trace, Calls: w.calls()}
}

const (
	// longest is how long a world may take.
	longest = 30 * time.Minute
	// lastLines is how many lines of the trace are shown when it takes longer.
	lastLines = 100
)

// hangs ends the test process: there is no other way out of a bubble in which something waits for ever.
func (w *World) hangs() {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := strings.Split(string(w.trace), "\n")
	panic(fmt.Sprintf("seed %d hangs\n%v%v\n%s", w.plan.Seed, w.plan, w.judge.Problems, strings.Join(lines[max(0, len(lines)-lastLines):], "\n")))
}

// populate starts every process.
func (w *World) populate(ctx context.Context) {
	for i, spec := range w.plan.Servers {
		w.servers = append(w.servers, newServer(w, i, spec))
		w.twins = append(w.twins, newTwin(w, i))
	}
	for i, spec := range w.plan.Callers {
		w.callers = append(w.callers, newCaller(w, len(w.servers)+i, spec))
	}
	for i, spec := range w.plan.Writers {
		w.writers = append(w.writers, newWriter(w, len(w.servers)+len(w.callers)+i, spec))
	}
	for _, s := range w.servers {
		s.start(ctx)
	}
	for _, c := range w.callers {
		c.start(ctx)
	}
	for _, o := range w.writers {
		o.start(ctx)
	}
}

// carryOut has each step happen at its time, and returns when the last one is over.
func (w *World) carryOut(ctx context.Context) {
	var steps sync.WaitGroup
	for _, step := range w.plan.Steps {
		steps.Go(func() {
			time.Sleep(step.At - time.Since(w.began))
			w.note("%s", w.plan.Words(step))
			faults[step.Kind](w, ctx, step)
		})
	}
	steps.Wait()
	w.undoOperators()
}

// undoOperators takes back what operators have put. Their steps have done so, but a backup may have brought it back.
func (w *World) undoOperators() {
	w.etcd.Alarm(false)
	for _, key := range []string{shopKey, userKey} {
		for _, e := range w.etcd.Entries(key + "/") {
			if isOperators(e) {
				w.etcd.Delete(e.Key)
			}
		}
	}
}

// process returns the process with an index, as steps name it.
func (w *World) process(i int) *process {
	switch {
	case i < len(w.servers):
		return &w.servers[i].process
	case i < len(w.servers)+len(w.callers):
		return &w.caller(i).process
	default:
		return &w.writer(i).process
	}
}

// caller returns the caller with an index among all processes.
func (w *World) caller(i int) *caller { return w.callers[i-len(w.servers)] }

// writer returns the writer with an index among all processes.
func (w *World) writer(i int) *writer { return w.writers[i-len(w.servers)-len(w.callers)] }

func (w *World) calls() int {
	n := 0
	for _, c := range w.callers {
		n += int(c.calls.Load())
	}
	return n
}

// observe has the judge hear of something.
func (w *World) observe(tell func(*check.Judge)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	tell(w.judge)
}

// report reports a broken rule.
func (w *World) report(rule check.Rule, format string, args ...any) {
	w.observe(func(j *check.Judge) { j.Report(time.Now(), rule, format, args...) })
}

// note adds a line to the trace.
func (w *World) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = fmt.Appendf(w.trace, "%v ", time.Since(w.began))
	w.trace = fmt.Appendf(w.trace, format+"\n", args...)
}

// committed notes a change in etcd.
func (w *World) committed(c etcd.Change) {
	w.note("commit %q %q delete %v by %s", c.Key, c.Value, c.Delete, c.Client)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits = append(w.commits, c)
	w.hang(c)
	w.noteCandidate(c)
	w.noteEntry(c.Revision, etcd.Entry{Key: c.Key, Value: c.Value})
	if c.Key == configKey {
		w.noteDrain(c.Value, !c.Delete)
	}
	if !c.Delete && c.Client != "" && strings.HasPrefix(c.Key, prefix) {
		w.judge.Put(time.Now(), c.Key, c.Client)
	}
}

// random returns a random source for a part of the world, the same for the same schedule.
func (w *World) random(part uint64) *rand.Rand { return rand.New(rand.NewPCG(w.plan.Seed, part)) }

// since returns the commits since a time.
func (w *World) since(at time.Time) []etcd.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := len(w.commits)
	for i > 0 && !w.commits[i-1].At.Before(at) {
		i--
	}
	return w.commits[i:len(w.commits):len(w.commits)]
}

// leasesOf returns the leases on which the process that dials from a host has put keys.
func (w *World) leasesOf(from string) map[int64]bool {
	leases := make(map[int64]bool)
	for _, c := range w.since(time.Time{}) {
		if c.Client == from && !c.Delete {
			leases[c.Lease] = true
		}
	}
	return leases
}
