// Package harness carries out a schedule: etcd, servers, callers and operators
// on a network in memory, all on the clock of a testing/synctest bubble. It
// uses only the public API, and records its observations in a check.History.
// From the bottom up:
//
//	world.go, requests.go              etcd, all processes, and the record of events
//	process.go, client.go              a host on the network with its log, and a client of etcd
//	server.go, incarnations.go         a server, from its start to its end
//	serving.go, withdrawing.go         how a server enters etcd and withdraws
//	election.go                        the candidates for leader
//	caller.go, calls.go, snapshots.go  callers
//	writer.go                          servers with their own etcd code
//	steps.go, operator.go              the steps of schedules
//	settle.go, lastcalls.go            the checks and the ordinary changes after the faults
//	run.go                             the whole run, and the check for leftovers
package harness

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Result is the outcome of a schedule.
type Result struct {
	Problems []check.Problem
	Virtual  time.Duration // duration in virtual time
	Trace    []byte        // the events, one on each line
}

// Run carries out a schedule, and returns after its end. It must run in a
// testing/synctest bubble.
func Run(spec schedule.Schedule) Result {
	w := newWorld(spec, network.New())
	watchdog := time.AfterFunc(longest, w.hangs)
	defer watchdog.Stop()

	w.start()
	stop := w.watch()
	w.carryOut()

	for _, region := range slices.Backward(w.regions()) {
		region.settle()
	}

	w.countGoroutines()
	w.liveAlone()
	stop()
	time.Sleep(calming)

	for _, region := range w.regions() {
		region.setCalm(true)
		region.tearDown()
	}

	if n := w.network.Connections("", ""); n > 0 {
		w.report(check.LeftBehind, "%d connections are open after the end, want none", n)
	}

	result := Result{Virtual: w.now()}
	result.Problems, result.Trace = w.results()

	return result
}

const (
	// calming is the time until callers have settled after etcd was
	// unreachable.
	calming = 10 * time.Second

	// arriving bounds the time after the last fault until late requests have
	// arrived.
	arriving = 10 * time.Second

	// longest bounds the duration of a world.
	longest = 30 * time.Minute

	// lastLines is the number of trace lines shown if a world lasts longer than
	// longest.
	lastLines = 100
)

// hangs ends the test process, because a bubble cannot end while a goroutine in
// it waits forever.
func (w *world) hangs() {
	problems, trace := w.results()
	lines := strings.Split(string(trace), "\n")
	panic(fmt.Sprintf("seed %d hangs\n%v%v\n%s", w.schedule.Seed, w.schedule, problems,
		strings.Join(lines[max(0, len(lines)-lastLines):], "\n")))
}

// results returns the promises that were broken and the events of all regions.
func (w *world) results() (problems []check.Problem, trace []byte) {
	for i, region := range w.regions() {
		if i > 0 {
			trace = append(trace, "In the other region:\n"...)
		}

		region.record(func(h *check.History) {
			problems = append(problems, h.Broken()...)
		})
		trace = append(trace, region.trace...)
	}

	return problems, trace
}

// start starts every process.
func (w *world) start() {
	if w.other != nil {
		w.other.start()
	}

	var starting sync.WaitGroup // done when all have started, before the first step
	for _, s := range w.servers {
		starting.Go(s.start)
	}

	for _, c := range w.callers {
		starting.Go(func() { c.start(false) })
	}

	for _, o := range w.writers {
		starting.Go(o.start)
	}

	starting.Wait()
}

// watch records counts and checks the leaders until stop is called.
func (w *world) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	for _, region := range w.regions() {
		watching.Go(func() { region.tally(ctx) })
		watching.Go(func() { region.sample(ctx) })
	}

	return func() {
		cancel()
		watching.Wait()
	}
}

// tally records the counts of all processes, one window at a time. The last
// window is shorter.
func (w *world) tally(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, check.Width)
		w.record(func(h *check.History) {
			for i, counts := range w.counts {
				h.Windows = append(h.Windows, check.Window{
					End:     time.Now(),
					Process: w.schedule.Name(i),
					Counts:  counts,
				})
			}

			clear(w.counts)
		})
	}
}

// carryOut begins each step at its time, and returns when the last step is
// over.
func (w *world) carryOut() {
	var steps sync.WaitGroup
	if w.other != nil {
		steps.Go(w.other.carryOut)
	}

	for _, step := range w.schedule.Steps {
		steps.Go(func() {
			time.Sleep(step.At - w.now())
			w.happen(step)
		})
	}

	steps.Wait()
	time.Sleep(arriving)

	w.operated(w.etcd.Alarm(false))

	// a restored backup may have brought them back
	w.deleteOperators(fixtures.ShopKey + "/")
	w.deleteOperators(fixtures.UserKey + "/")
}

// tearDown stops every process in order, and reports leftovers.
func (w *world) tearDown() {
	for _, s := range w.servers {
		s.stop(false)
	}

	for _, s := range w.servers {
		if remaining := s.notOut(); remaining != "" {
			w.report(check.LeftBehind, "after all servers have stopped, %s", remaining)
		}
	}

	if remaining := w.etcd.Entries(fixtures.Leaders); len(remaining) > 0 {
		w.report(check.LeftBehind,
			"after all servers have stopped, etcd has %v, want none", remaining)
	}

	for _, c := range w.callers {
		c.stop(false)
		must(os.RemoveAll(c.snapshots.temp))
	}

	for _, o := range w.writers {
		o.kill()
	}

	// until all leases that were not revoked have expired
	time.Sleep(2 * w.schedule.LeaseTTL())

	for _, lease := range w.etcd.Leases() {
		w.report(check.LeftBehind, "lease %x is left in etcd, want none", lease)
	}

	w.later.Wait() // until clients that lingered are closed
	must(w.etcd.Close())
}

// ofInterest holds the packages of the runtime and of etcd's client.
var ofInterest = []string{
	"github.com/etcdrpc/protoc-gen-go-etcd/internal",
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime",
	"github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection",
	"go.etcd.io/etcd/client/v3",
}

const (
	// mostAlike bounds the average number of goroutines that start in the same
	// function, in an idle process. A process has one for each key that it
	// watches: up to four entries, and three keys of the election. etcd's
	// client has one for each watch and each stream.
	mostAlike = 7

	// mostSecond is how many more goroutines a process with a second server may
	// have. While the live config drains an instance, the two candidates of the
	// process follow instances and config.
	mostSecond = 4
)

// beganWith returns the first function of interest in a goroutine's stack, or
// "".
func beganWith(stack string) string {
	lines := strings.Split(stack, "\n")
	for _, line := range slices.Backward(lines) {
		if slices.ContainsFunc(ofInterest, func(prefix string) bool {
			return strings.HasPrefix(line, prefix)
		}) {
			return line[:strings.LastIndexByte(line, '(')+1]
		}
	}

	return ""
}

// countGoroutines counts goroutines by their first function, and reports the
// functions with more goroutines than the processes need.
func (w *world) countGoroutines() {
	all := make([]byte, 4<<20)
	all = all[:runtime.Stack(all, true)]

	count := map[string]int{}
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		count[beganWith(stack)]++
	}

	delete(count, "")

	var processes, configs, seconds int
	for _, region := range w.regions() {
		for _, c := range region.callers {
			configs += len(c.registry.Status().Keys)
		}

		processes += region.schedule.Processes()
		processes += len(region.callers) * (len(w.regions()) - 1) // fallback registries

		for _, s := range region.schedule.Servers {
			if s.Second {
				seconds++
			}
		}
	}

	most := mostAlike*processes + mostSecond*seconds + configs
	for kind, n := range count {
		if n > most {
			w.report(check.LeftBehind,
				"%d processes have %d goroutines of %s, want at most %d", processes, n,
				kind, most)
		}
	}
}
