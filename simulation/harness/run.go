// Package harness carries out a schedule: an etcd cluster, servers, callers and operators on a network in memory, all on the
// clock of a testing/synctest bubble. It goes through the public API alone, and notes what it sees for package check. From the
// bottom up:
//
//	world.go, requests.go, rights.go  what processes run in
//	process.go, log.go, task.go                 a host on the network, and a client of etcd
//	presence.go                                 what a server is to have in etcd, compared with what is there
//	server.go, lives.go, serving.go, leaving.go a server, from its start to its end
//	election.go                                 the lives of servers that stand for election
//	caller.go, calls.go, readers.go             who calls, and what callers must hear of
//	writer.go                                   who writes to etcd by code of its own
//	regions.go                                  the region that callers fall back on
//	fault.go, steps.go, operator.go             the steps of schedules
//	lasting.go, sample.go, leaders.go           what must hold all the time
//	settle.go, watches.go, goroutines.go        what must hold in the end
//	lastcalls.go, shares.go, atonce.go          where calls must go then
//	trial.go, run.go                            all of it, from the beginning to the end
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
	for _, region := range t.regions() {
		region.tearDown(ctx)
	}
	if n := t.network.Connections("", ""); n > 0 {
		t.Report(check.LeftBehind, "%d connections are open", n)
	}
	result := Result{Virtual: t.Now()}
	result.Problems, result.Trace = t.results()
	for _, c := range t.callers {
		result.Calls += int(c.calls.Load())
	}
	return result
}

const (
	// longest is how long a world may take.
	longest = 30 * time.Minute
	// lastLines is how many lines of the trace are shown when it takes longer.
	lastLines = 100
)

// hangs ends the test process: there is no other way out of a bubble in which something waits for ever.
func (t *trial) hangs() {
	problems, trace := t.results()
	lines := strings.Split(string(trace), "\n")
	panic(fmt.Sprintf("seed %d hangs\n%v%v\n%s", t.Plan.Seed, t.Plan, problems, strings.Join(lines[max(0, len(lines)-lastLines):], "\n")))
}

// results returns the problems and the events of all regions.
func (t *trial) results() ([]check.Problem, []byte) {
	problems, trace := t.Result()
	if t.other != nil {
		more, events := t.other.Result()
		problems, trace = append(problems, more...), slices.Concat(trace, []byte("In the other region:\n"), events)
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
		watching.Go(func() { region.measure(ctx) })
		watching.Go(func() { region.sample(ctx) })
	}
	return func() {
		cancel()
		watching.Wait()
	}
}

// carryOut has each step happen at its time, and returns when the last one is over.
func (t *trial) carryOut(ctx context.Context) {
	var steps sync.WaitGroup
	if t.other != nil {
		steps.Go(func() { t.other.carryOut(ctx) })
	}
	for _, step := range t.Plan.Steps {
		steps.Go(func() {
			time.Sleep(step.At - t.Now())
			t.Note("%s", t.Plan.Words(step))
			faults[step.Kind](t, ctx, step)
		})
	}
	steps.Wait()
	time.Sleep(t.underWay() + time.Second) // what processes have put may arrive yet
	t.undo()
}

// tearDown stops every process in order, and reports what is left behind.
func (t *trial) tearDown(ctx context.Context) {
	for _, s := range t.servers {
		s.stop(ctx)
	}
	for _, e := range append(t.serversEntries(), t.Etcd.Entries(acme.Leaders)...) {
		t.Report(check.LeftBehind, "%s holds %q on lease %x after all servers have stopped in order", e.Key, e.Value, e.Lease)
	}
	t.later.Wait() // callers hear that servers have left
	for _, c := range t.callers {
		c.stop(ctx)
	}
	for _, o := range t.writers {
		o.kill()
	}
	time.Sleep(2 * t.Plan.LeaseTTL()) // until what was left to expire has expired
	for _, lease := range t.Etcd.Leases() {
		t.Report(check.LeftBehind, "lease %x with %v is left in etcd", lease.ID, lease.Keys)
	}
	t.later.Wait() // until clients that lingered are closed
	t.Etcd.Close()
}
