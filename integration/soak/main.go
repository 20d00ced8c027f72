// Command soak throws random faults at an etcd of three members, ten servers and twenty clients that
// call them without a pause, and checks all along that nothing of it hurts:
//
//   - No call fails. The clients retry what ended with UNAVAILABLE, as a service that may lose a
//     server must; beyond that nothing is excused, not even a call that was under way on a server
//     which was killed. The schedule sees to it that at every moment at least three servers run that
//     every client has heard of.
//   - After each storm of faults every server that runs is in etcd again, on a lease of its own, every
//     client has the set that a linearizable read of etcd gives, and every connection reaches each
//     server of it and no other.
//   - At the end no key, lease, goroutine or file descriptor is left beyond those of the start.
//
// It prints its seed, and a seed replays the same faults at the same times after the start of each
// storm. It ends by itself, and exits with 1 after the first violation, with the time of it and the
// faults before it.
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

func run(ctx context.Context, seed uint64, duration time.Duration, verbose bool) (err error) {
	resources, err := takeStock()
	if err != nil {
		return err
	}
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
	err = w.soak(ctx, seed, duration)
	if err == nil {
		err = w.end()
	} else {
		w.abandon()
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		return err
	}
	w.figures.print(os.Stdout)
	if err := w.figures.report(); err != nil {
		return err
	}
	if err := resources.compare(); err != nil {
		return err
	}
	fmt.Printf("nothing is left: no key, no lease, no goroutine, no file descriptor\nPASSED with seed %d\n", seed)
	return nil
}

// soak has storms, with a calm after each, until the time is over.
func (w *world) soak(ctx context.Context, seed uint64, duration time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.violated = cancel
	if err := w.begin(ctx); err != nil {
		return err
	}
	plan := newPlan(seed)
	for n := 1; time.Since(w.start) < duration; n++ {
		w.say("storm %d", n)
		w.storm(ctx, plan.next())
		if err := w.calm(ctx); err != nil {
			return w.explain(err)
		}
		w.figures.storms++
	}
	return nil
}
