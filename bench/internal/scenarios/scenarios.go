// Package scenarios measures: each scenario runs the peers in processes of their own, and returns what these have found.
//
//	scenarios.go  the scenarios, and how one is run
//	rounds.go     runs of all peers, one after the other or at once
//	turns.go      ... or in turns of some hundred calls
//	child.go      a measured process, from inside
//	proc.go       ... and from outside
//	gozero.go     what only a program of its own links
//	etcd.go       the etcd that they use, and what changes in it
//	counted.go    ... in a process of its own, which tells what it carries
//	resolvers.go  who finds endpoints
//	registrars.go who registers them
//	find.go       a measured process that finds endpoints
//	clients.go    connections as each peer's users make them
//	backends.go   what they call
//	stub.go       what stands in place of gRPC
//	probe.go      ... in place of the load balancing policy
//	change.go, …  each scenario: what it does, its targets, and how its figures are shown
package scenarios

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

// A Scenario is one thing to measure.
type Scenario struct {
	report.Scenario
	Extra bool // runs by its name alone, for it takes long
	run   func(context.Context, *bench) error
}

// What a scenario consists of.
type (
	metric = report.Metric
	target = report.Target
)

// All returns the scenarios, in the order in which they are run and shown.
func All() []*Scenario {
	return []*Scenario{
		changeScenario,
		sequenceScenario,
		rolloutScenario,
		coldScenario,
		connsScenario,
		registrationsScenario,
		rpcScenario,
		connectScenario,
		slowScenario,
		callsScenario,
		joinsScenario,
		recoveryScenario,
		awayScenario,
		restScenario,
		scaleScenario,
	}
}

// Options say how a scenario is run.
type Options struct {
	Rounds  int    // runs of each peer
	GoZero  string // the program cmd/gozero
	Machine string // what measures, in words
}

// NeedsGoZero reports whether the scenario starts the program cmd/gozero.
func (s *Scenario) NeedsGoZero() bool { return slices.Contains(s.Peers, peerGoZero) }

// Run measures the scenario.
func (s *Scenario) Run(ctx context.Context, o Options) (results.Set, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := &bench{Options: o, scenario: s.Name, dir: dir}
	err = s.run(ctx, b)
	return b.runs, err
}

// bench is one scenario being run.
type bench struct {
	Options
	scenario string
	dir      string // for what lives as long as the run

	runs results.Set
}

// record notes what a run has measured.
func (b *bench) record(c, peer string, round int, values map[string]float64) {
	b.runs = append(b.runs, results.Run{
		Scenario: b.scenario, Case: c, Peer: peer, Round: round, Values: values,
		At: time.Now().UTC().Truncate(time.Second), Machine: b.Machine,
	})
}
