// Package harness carries out a schedule: etcd, servers, callers and operators on a network in memory, all on the clock of a
// testing/synctest bubble. It goes through the public API alone, and records what it sees in a check.History. From the bottom up:
//
//	world.go, requests.go, rights.go             what processes run in, and the record of it
//	process.go, client.go, log.go, task.go       a host on the network, and a client of etcd
//	presence.go                                  what a server is to have in etcd
//	server.go, lives.go, serving.go, leaving.go  a server, from its start to its end
//	election.go                                  the lives of servers that stand for election
//	caller.go, calls.go, snapshots.go            who calls
//	writer.go                                    who writes to etcd by code of its own
//	regions.go                                   the region that callers fall back on
//	fault.go, steps.go, operator.go              the steps of schedules
//	settle.go, lastcalls.go, atonce.go           how all is looked at once the faults are over
//	coda.go, goroutines.go                       the ordinary things that happen then, and what is left over
//	trial.go, run.go                             all of it, from the beginning to the end
package harness

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Result is the outcome of a schedule.
type Result struct {
	Problems []check.Problem
	Virtual  time.Duration // how long it took in the world
	Trace    []byte        // the events, one a line
	Calls    int
}

// Run carries out a schedule, and returns when nothing of it is left. It must run in a testing/synctest bubble.
func Run(ctx context.Context, plan schedule.Schedule) Result {
	t := newTrial(newWorld(plan, network.New()))
	defer os.RemoveAll(t.temp)
	watchdog := time.AfterFunc(longest, t.hangs)
	defer watchdog.Stop()
	t.start(ctx)
	watched := t.watchOver(ctx)
	t.carryOut(ctx)
	for _, region := range slices.Backward(t.regions()) {
		region.settle(ctx)
	}
	t.countGoroutines()
	t.liveAlone(ctx)
	watched()
	time.Sleep(calming)
	for _, region := range t.regions() {
		region.setCalm(true)
		region.tearDown(ctx)
	}
	if n := t.network.Connections("", ""); n > 0 {
		t.report(check.LeftBehind, "%d connections are open", n)
	}
	result := Result{Virtual: t.now()}
	result.Problems, result.Trace = t.results()
	for _, c := range t.callers {
		result.Calls += int(c.calls.Load())
	}
	return result
}

const (
	// calming is how long callers take that could not reach etcd at last.
	calming = 10 * time.Second
	// longest is how long a world may take.
	longest = 30 * time.Minute
	// lastLines is how many lines of the trace are shown when it takes longer.
	lastLines = 100
)

// hangs ends the test process: there is no other way out of a bubble in which something waits for ever.
func (t *trial) hangs() {
	problems, trace := t.results()
	lines := strings.Split(string(trace), "\n")
	panic(fmt.Sprintf("seed %d hangs\n%v%v\n%s", t.plan.Seed, t.plan, problems, strings.Join(lines[max(0, len(lines)-lastLines):], "\n")))
}

// results returns the promises that were broken and the events of all regions.
func (t *trial) results() (problems []check.Problem, trace []byte) {
	for i, region := range t.regions() {
		if i > 0 {
			trace = append(trace, "In the other region:\n"...)
		}
		region.record(func(h *check.History) { problems = append(problems, h.Broken()...) })
		trace = append(trace, region.trace...)
	}
	return problems, trace
}

// start starts every process.
func (t *trial) start(ctx context.Context) {
	if t.other != nil {
		t.other.start(ctx)
	}
	var starting sync.WaitGroup // far from etcd it takes a while: it is over before the first step
	for _, s := range t.servers {
		starting.Go(func() { s.start(ctx) })
	}
	for _, c := range t.callers {
		starting.Go(func() { c.start(ctx) })
	}
	for _, o := range t.writers {
		starting.Go(func() { o.start(ctx) })
	}
	starting.Wait()
}

// watchOver watches over all processes until the returned function is called.
func (t *trial) watchOver(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	for _, region := range t.regions() {
		watching.Go(func() { region.count(ctx) })
		watching.Go(func() { region.election.sample(ctx) })
	}
	return func() {
		cancel()
		watching.Wait()
	}
}

// count records what all processes do, a window at a time. The last window is a part of one.
func (t *trial) count(ctx context.Context) {
	before := make(map[int]check.Counts)
	tick := time.NewTicker(check.Width)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		for i := range t.plan.Processes() {
			done := t.requests.askedBy(i)
			done.Lines, done.Dials = int(t.process(i).lines.Load()), int(t.process(i).dials.Load())
			w := check.Window{End: time.Now(), Process: t.plan.Name(i), Counts: done.Sub(before[i])}
			t.record(func(h *check.History) { h.Windows = append(h.Windows, w) })
			before[i] = done
		}
	}
}

// carryOut has each step happen at its time, and returns when the last one is over.
func (t *trial) carryOut(ctx context.Context) {
	var steps sync.WaitGroup
	if t.other != nil {
		steps.Go(func() { t.other.carryOut(ctx) })
	}
	for _, step := range t.plan.Steps {
		steps.Go(func() {
			time.Sleep(step.At - t.now())
			t.note("%s", t.plan.Words(step))
			faults[step.Kind](t, ctx, step)
		})
	}
	steps.Wait()
	time.Sleep(t.underWay() + time.Second) // what processes have put may arrive yet
	t.undo()
}

// underWay returns how long a request may have been under way to etcd until now.
func (t *trial) underWay() (longest time.Duration) {
	for _, s := range t.plan.Steps {
		switch {
		case s.At >= t.now():
		case s.Kind == schedule.RequestsLate:
			longest = max(longest, s.Milliseconds())
		case s.Kind == schedule.StalledFromEtcd, s.Kind == schedule.StalledFromMember: // it arrives when that ends
			longest = max(longest, s.For)
		}
	}
	return longest
}

// tearDown stops every process in order, and reports what is left behind.
func (t *trial) tearDown(ctx context.Context) {
	for _, s := range t.servers {
		s.stop(ctx)
	}
	l := t.entries()
	for _, s := range t.servers {
		for _, key := range s.keys() {
			if left := s.seen().Left(l, key); left != "" {
				t.report(check.LeftBehind, "all servers have stopped in order, and %s", left)
			}
		}
	}
	if left := l.Under(acme.Leaders); len(left) > 0 {
		t.report(check.LeftBehind, "all servers have stopped in order, and etcd has %v", left)
	}
	for _, c := range t.callers {
		c.stop(ctx)
	}
	for _, o := range t.writers {
		o.kill()
	}
	time.Sleep(2 * t.plan.LeaseTTL()) // until what was left to expire has expired
	for _, lease := range t.etcd.Leases() {
		t.report(check.LeftBehind, "lease %x is left in etcd", lease)
	}
	t.later.Wait() // until clients that lingered are closed
	must(t.etcd.Close())
}
