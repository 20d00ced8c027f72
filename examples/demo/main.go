// Command demo shows that calls go on while their servers and etcd come and go.
//
// It generates the code of examples/quickstart, starts an etcd of three members and three server
// processes, and calls them at a steady rate. Then it kills one server, drains another, adds a fourth
// and stops the etcd member that leads. It exits with 1 if a single call failed.
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
	quickstart string        // path of examples/quickstart
	rate       int           // calls a second
	pace       time.Duration // between two events
}

func main() {
	cfg := config{}
	flag.StringVar(&cfg.quickstart, "quickstart", "quickstart", "`directory` of the quickstart")
	flag.IntVar(&cfg.rate, "rate", 400, "calls a second")
	flag.DurationVar(&cfg.pace, "pace", 2500*time.Millisecond, "time between two events")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out *os.File, cfg config) error {
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, err := build(ctx, out, cfg.quickstart, dir)
	if err != nil {
		return err
	}
	d, err := setUp(ctx, out, cfg, dir, binary)
	if err != nil {
		return err
	}
	defer d.tearDown()
	if err := d.tell(ctx); err != nil {
		return err
	}
	return d.conclude(out)
}
