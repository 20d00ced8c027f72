// Command story starts an etcd of three members and three server processes, and
// calls them at a steady rate. Then it kills one server, drains another, adds a
// fourth and stops the etcd member that leads. It exits with 1 if a single call
// failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// config holds the options of a run.
type config struct {
	server string        // path of the quickstart's server
	rate   int           // calls a second
	pace   time.Duration // between two events
}

func main() {
	var cfg config
	flag.StringVar(&cfg.server, "server", "", "`path` of the quickstart's server")
	flag.IntVar(&cfg.rate, "rate", 400, "calls a second")
	flag.DurationVar(&cfg.pace, "pace", 2500*time.Millisecond, "time between two events")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := run(ctx, os.Stdout, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "story:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out *os.File, cfg config) error {
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	d, err := setUp(ctx, out, cfg, dir)
	if err != nil {
		return err
	}
	defer d.tearDown()

	if err := d.play(ctx); err != nil {
		return err
	}

	return d.conclude(out)
}
