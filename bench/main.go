// Command bench measures this project beside its peers: etcd's own naming/resolver, go-zero's
// discov, a raw list and watch that only decodes (the floor below which nobody gets), and a static
// list of addresses (the RPC path).
//
// Every run is a fresh process of this binary, so that its CPU time, allocations and goroutines are
// its own; the peers take turns within each round, so that a busy machine is equally unkind to all.
// What was measured goes to results.jsonl, one line a run; docs/performance.md, docs/scaling.md and
// their plots are written from that file.
//
//	main.go       what to run
//	scenarios.go  the scenarios
//	documents.go  the documents and results.jsonl
//	rounds.go     runs of all peers, one after the other or at once
//	turns.go      ... or in turns within one process
//	child.go      a measured process, from inside
//	proc.go       ... and from outside
//	etcd.go       the etcd that they use, and what changes in it
//	counted.go    ... in a process of its own, which tells what it carries
//	resolvers.go  who finds endpoints
//	registrars.go who registers them
//	find.go       a measured process that finds endpoints
//	clients.go    connections as each peer's users make them
//	backends.go   what they call
//	stub.go       what stands in place of gRPC
//	probe.go      ... in place of the load balancing policy
//	silence.go    ... and in place of the network
//	change.go, … scenarios: what each does, its targets, and how its figures are shown
//
// What is made of the results is in internal: results has the figures and ratios, report the verdicts,
// tables, plots and documents. Another scenario is a file with its description and what it runs, a line
// in scenarios.go, a section in performance.md.tmpl, and its results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/zeromicro/go-zero/core/logx"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
)

func main() {
	log.SetFlags(0)
	logx.Disable() // go-zero tells each minute what a process uses, whoever imports it
	if len(os.Args) == 3 && os.Args[1] == childFlag {
		if err := runChild(os.Args[2]); err != nil {
			log.Fatal(err)
		}
		return
	}
	names := flag.String("scenario", "", "scenarios to run, separated by commas; by default all but "+strings.Join(extras(), ", "))
	rounds := flag.Int("rounds", 5, "runs of each peer")
	corpus := flag.String("corpus", os.Getenv("CORPUS"), "a plugin request, gzipped or not, for the scenario generator")
	render := flag.Bool("render", false, "run nothing; write the documents again")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *names, *rounds, *corpus, *render); err != nil {
		stop()
		log.Fatal(err)
	}
}

func run(ctx context.Context, names string, rounds int, corpus string, render bool) error {
	known, err := results.Load(resultsFile)
	if err != nil {
		return fmt.Errorf("%s: %w", resultsFile, err)
	}
	if render {
		return writeDocuments(known)
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	var failed error // one scenario that fails does not keep the others from being measured
	for _, s := range chosen {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%s: %s\n", s.Name, s.Title)
		b := &bench{scenario: s.Name, machine: machine(), rounds: rounds, corpus: corpus}
		if err := b.runIn(ctx, s); err != nil {
			fmt.Fprintf(os.Stderr, "%s failed: %v\n\n", s.Name, err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.Name, err))
			continue
		}
		known = known.With(s.Name, b.runs)
		if err := known.Save(resultsFile); err != nil {
			return err
		}
		fmt.Print(s.Text(known))
		fmt.Fprintf(os.Stderr, "%s took %v\n\n", s.Name, time.Since(began).Round(time.Second))
	}
	return errors.Join(failed, writeDocuments(known))
}

// extras returns the names of the scenarios that run by name alone.
func extras() []string {
	var names []string
	for _, s := range scenarios {
		if s.extra {
			names = append(names, s.Name)
		}
	}
	return names
}

// choose finds the scenarios by their names.
func choose(names string) ([]*scenario, error) {
	var chosen []*scenario
	if names == "" {
		for _, s := range scenarios {
			if !s.extra {
				chosen = append(chosen, s)
			}
		}
		return chosen, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(scenarios, func(s *scenario) bool { return s.Name == name })
		if i < 0 {
			var all []string
			for _, s := range scenarios {
				all = append(all, s.Name)
			}
			return nil, fmt.Errorf("there is no scenario %q: want one of %s", name, strings.Join(all, ", "))
		}
		chosen = append(chosen, scenarios[i])
	}
	return chosen, nil
}

// bench is one scenario being run.
type bench struct {
	scenario string
	machine  string
	rounds   int
	corpus   string
	dir      string // for what lives as long as the run

	runs results.Set
}

func (b *bench) runIn(ctx context.Context, s *scenario) error {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.dir = dir
	return s.run(ctx, b)
}

// record notes what a run has measured.
func (b *bench) record(c, peer string, round int, values map[string]float64) {
	b.runs = append(b.runs, results.Run{
		Scenario: b.scenario, Case: c, Peer: peer, Round: round, Values: values,
		At: time.Now().UTC().Truncate(time.Second), Machine: b.machine,
	})
}
