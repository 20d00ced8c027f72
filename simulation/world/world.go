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
	callers []*caller
	writers []*writer
	ghosts  sync.WaitGroup // what is left of killed processes

	mu      sync.Mutex
	judge   *check.Judge
	commits []etcd.Change        // all of them, in order
	resets  []time.Time          // when etcd was restored or wiped
	seen    map[string]time.Time // by service and address: when etcd was last seen to have it
	down    []int                // by member: how many reasons it has to be down
	trace   []byte               // what has happened, for replays to compare
}

// Result is what came of a schedule.
type Result struct {
	Problems []check.Problem
	Virtual  time.Duration // how long it took in the world
	Trace    []byte        // what happened, a line an event
	Calls    int
}

// Run carries out a schedule in a bubble, and returns when nothing of it is left.
func Run(ctx context.Context, plan schedule.Schedule) Result {
	w := &World{plan: plan, began: time.Now(), network: network.New(), etcd: etcd.New(plan.Members), judge: check.New(time.Now()), down: make([]int, plan.Members),
		seen: make(map[string]time.Time)}
	watchdog := time.AfterFunc(longest, w.hangs)
	defer watchdog.Stop()
	w.rules = newRules(w)
	w.rights = newRights(w)
	w.etcd.OnCommit(w.committed)
	for i := range plan.Members {
		w.serveMember(i)
	}
	w.populate(ctx)
	w.carryOut(ctx)
	w.settle(ctx)
	w.tearDown(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	return Result{Problems: w.judge.Problems, Virtual: time.Since(w.began), Trace: w.trace, Calls: w.calls()}
}

// longest is how long a world may take.
const longest = 30 * time.Minute

// hangs ends the process. A bubble in which something waits for ever cannot be left otherwise.
func (w *World) hangs() {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := strings.Split(string(w.trace), "\n")
	panic(fmt.Sprintf("seed %d hangs\n%v%v\n%s", w.plan.Seed, w.plan, w.judge.Problems, strings.Join(lines[max(0, len(lines)-100):], "\n")))
}

// populate starts every process.
func (w *World) populate(ctx context.Context) {
	for i, spec := range w.plan.Servers {
		w.servers = append(w.servers, newServer(w, i, spec))
	}
	for i, spec := range w.plan.Callers {
		w.callers = append(w.callers, newCaller(w, len(w.servers)+i, spec))
	}
	for i, spec := range w.plan.Writers {
		w.writers = append(w.writers, newWriter(w, len(w.servers)+len(w.callers)+i, spec))
	}
	for _, p := range w.processes() {
		p.start(ctx)
	}
}

// carryOut has each step happen at its time, and returns when the last one is over.
func (w *World) carryOut(ctx context.Context) {
	measured, stop := context.WithCancel(ctx)
	var watching, steps sync.WaitGroup
	watching.Go(func() { w.measure(measured) })
	for _, step := range w.plan.Steps {
		steps.Go(func() {
			time.Sleep(step.At - time.Since(w.began))
			w.note("%s", w.plan.Words(step))
			faults[step.Kind](w, ctx, step)
		})
	}
	steps.Wait()
	// A backup brings back what an operator has taken back since.
	w.etcd.Alarm(false)
	for _, key := range []string{shopKey, userKey} {
		for _, e := range w.etcd.Entries(key + "/") {
			if w.operators(e) {
				w.etcd.Delete(e.Key)
			}
		}
	}
	stop()
	watching.Wait()
}

// lifelike is what steps can do to any process.
type lifelike interface {
	start(ctx context.Context)
	kill(ctx context.Context)
	stop(ctx context.Context)
}

func (w *World) processes() []lifelike {
	var all []lifelike
	for _, s := range w.servers {
		all = append(all, s)
	}
	for _, c := range w.callers {
		all = append(all, c)
	}
	for _, o := range w.writers {
		all = append(all, o)
	}
	return all
}

// measure judges the rates of all processes, a window at a time.
func (w *World) measure(ctx context.Context) {
	requests, lines := make(map[int]int), make(map[int]int)
	tick := time.NewTicker(check.Window)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := range w.plan.Processes() {
			served, logged := w.rules.servedTo(i), w.linesOf(i)
			w.observe(func(j *check.Judge) { j.Rate(time.Now(), w.plan.Name(i), served-requests[i], logged-lines[i]) })
			requests[i], lines[i] = served, logged
		}
	}
}

func (w *World) linesOf(process int) int { return w.base(process).log.count() }

// base returns what is the same for every kind of process.
func (w *World) base(i int) *process {
	switch servers, callers := len(w.servers), len(w.callers); {
	case i < servers:
		return &w.servers[i].process
	case i < servers+callers:
		return &w.callers[i-servers].process
	default:
		return &w.writers[i-servers-callers].process
	}
}

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

// committed hears of each change of etcd.
func (w *World) committed(c etcd.Change) {
	w.note("commit %q %q delete %v by %s", c.Key, c.Value, c.Delete, c.Client)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits = append(w.commits, c)
	if !c.Delete && c.Client != "" && strings.HasPrefix(c.Key, "acme/") {
		w.judge.Put(time.Now(), c.Key, c.Client)
	}
}

// random returns a source of chance for a part of the world, the same for the same schedule.
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

// leasesOf returns the leases on which a life of a process has put keys.
func (w *World) leasesOf(from string) map[int64]bool {
	leases := make(map[int64]bool)
	for _, c := range w.since(time.Time{}) {
		if c.Client == from && !c.Delete {
			leases[c.Lease] = true
		}
	}
	return leases
}

// resetSince reports whether etcd was restored or wiped since a time.
func (w *World) resetSince(at time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.resets) > 0 && !w.resets[len(w.resets)-1].Before(at)
}
