// Command soak throws random faults at an etcd of three members, ten servers and twenty clients that
// call them without a pause, and checks all along that nothing of it hurts:
//
//   - No call fails. The clients retry what ended with UNAVAILABLE, as a service that may lose a
//     server must; beyond that nothing is excused, not even a call that was under way on a server
//     which was killed. The schedule sees to it that at every moment at least three servers run that
//     every client has heard of.
//   - After each storm of faults every server that runs is in etcd again, on a lease of its own, every
//     client has the set that a linearizable read of etcd gives and no other, and reaches each server
//     of it.
//   - At the end no key, lease, goroutine or file descriptor is left beyond those of the start.
//
// The simulation judges more, in virtual time and on a model of etcd. Here etcd's members, the network, the
// clock and what a process has open are real.
//
// It prints its seed, and a seed replays the same faults at the same times after the start of each
// storm. It ends by itself, and exits with 1 after the first violation.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	duration := flag.Duration("duration", 5*time.Minute, "how long to go on; the storm at that time is brought to its end")
	seed := flag.Uint64("seed", 0, "which faults to have; 0 chooses a seed")
	verbose := flag.Bool("v", false, "show what the registries log")
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000) + 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *seed, *duration, *verbose); err != nil {
		fmt.Fprintf(os.Stderr, "\nFAILED with -seed %d\n%v\n", *seed, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, seed uint64, duration time.Duration, verbose bool) error {
	resources := takeStock()
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("seed %d, for %v\n", seed, duration)
	w, err := newWorld(dir, verbose)
	if err != nil {
		return err
	}
	if err := w.soak(ctx, seed, duration); err != nil {
		w.abandon()
		return err
	}
	if err := errors.Join(w.end(), resources.compare()); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	w.report()
	fmt.Printf("nothing is left: no key, no lease, no goroutine, no file descriptor\nPASSED with seed %d\n", seed)
	return nil
}
