// Command bench measures this project beside its peers: etcd's own naming/resolver, go-zero's
// discov, a raw list and watch that only decodes (the floor below which nobody gets), and a static
// list of addresses (the RPC path).
//
// Every run is a fresh process, so that its CPU time, allocations and goroutines are its own; the
// peers take turns within each round, so that a busy machine is equally unkind to all. The processes
// are this binary, and those of go-zero are cmd/gozero, which alone links it.
// What was measured goes to results.jsonl, one line a run; docs/measured/performance.md, docs/measured/scaling.md and
// their plots are written from that file.
//
//	main.go       what to run
//	documents.go  the documents and results.jsonl
//
// In internal, scenarios measures, results has the figures and ratios, and report the verdicts,
// tables, plots and documents. Another scenario is a file of scenarios with its description and what
// it runs, a line in All, a section in performance.md.tmpl, and its results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/results"
	"github.com/etcdrpc/protoc-gen-go-etcd/bench/internal/scenarios"
)

func main() {
	log.SetFlags(0)
	if scenarios.IsChild(os.Args) {
		if err := scenarios.RunChild(os.Args, nil); err != nil {
			log.Fatal(err)
		}
		return
	}
	names := flag.String("scenario", "", "scenarios to run, separated by commas; by default all but "+strings.Join(extras(), ", "))
	rounds := flag.Int("rounds", 5, "runs of each peer; five are the least that give an interval")
	render := flag.Bool("render", false, "run nothing; write the documents again")
	flag.Parse()
	chosen, err := choose(*names, *rounds, flag.Args())
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *render {
		chosen = nil
	}
	if err := run(ctx, chosen, *rounds); err != nil {
		stop()
		log.Fatal(err)
	}
}

// run measures the scenarios, and writes the documents.
func run(ctx context.Context, chosen []*scenarios.Scenario, rounds int) error {
	known, err := results.Load(resultsFile)
	if err != nil {
		return fmt.Errorf("%s: %w", resultsFile, err)
	}
	if len(chosen) == 0 {
		return writeDocuments(known)
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	began := time.Now()
	o := scenarios.Options{Rounds: rounds, Machine: machine()}
	if slices.ContainsFunc(chosen, (*scenarios.Scenario).NeedsGoZero) {
		if o.GoZero, err = buildGoZero(ctx, dir); err != nil {
			return err
		}
	}
	var failed error // one scenario that fails does not keep the others from being measured
	for _, s := range chosen {
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%s: %s\n", s.Name, s.Title)
		runs, err := s.Run(ctx, o)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s failed: %v\n\n", s.Name, err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.Name, err))
			continue
		}
		known = known.With(s.Name, runs)
		if err := known.Save(resultsFile); err != nil {
			return err
		}
		fmt.Print(s.Text(known))
		fmt.Fprintf(os.Stderr, "%s took %v\n\n", s.Name, time.Since(began).Round(time.Second))
	}
	err = errors.Join(failed, writeDocuments(known))
	fmt.Fprintf(os.Stderr, "in all it took %v\n", time.Since(began).Round(time.Second))
	return err
}

// buildGoZero builds the program of go-zero's processes in a directory, and returns its path.
func buildGoZero(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "gozero")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/gozero")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build cmd/gozero: %w\n%s", err, out)
	}
	return path, nil
}

// all returns the names of the scenarios.
func all() []string {
	var names []string
	for _, s := range scenarios.All() {
		names = append(names, s.Name)
	}
	return names
}

// extras returns the names of the scenarios that run by name alone.
func extras() []string {
	var names []string
	for _, s := range scenarios.All() {
		if s.Extra {
			names = append(names, s.Name)
		}
	}
	return names
}

// choose returns the scenarios that the command line asks for: those that are named, or all that need no name.
func choose(names string, rounds int, args []string) ([]*scenarios.Scenario, error) {
	known := strings.Join(all(), ", ")
	if len(args) > 0 {
		return nil, fmt.Errorf("there is no argument %q: name scenarios by -scenario, one or more of %s", args[0], known)
	}
	if rounds < 1 {
		return nil, fmt.Errorf("-rounds %d: want at least 1, of any of the scenarios %s", rounds, known)
	}
	every := scenarios.All()
	if names == "" {
		return slices.DeleteFunc(every, func(s *scenarios.Scenario) bool { return s.Extra }), nil
	}
	var chosen []*scenarios.Scenario
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(every, func(s *scenarios.Scenario) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q: want one of %s", name, known)
		}
		chosen = append(chosen, every[i])
	}
	return chosen, nil
}
