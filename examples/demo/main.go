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
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
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

// build generates the quickstart's code with the commands of its README, and compiles its server into dir.
func build(ctx context.Context, out io.Writer, quickstart, dir string) (binary string, err error) {
	binary, err = filepath.Abs(filepath.Join(dir, "server"))
	if err != nil {
		return "", err
	}
	for _, command := range [][]string{
		{"go", "tool", "protoc-gen-go-etcd", "--version"}, // builds the plugin
		{"go", "tool", "-modfile=tools/go.mod", "buf", "generate"},
		{"go", "build", "-o", binary, "./server"},
	} {
		start := time.Now()
		fmt.Fprintf(out, "%s$ %s", filepath.Base(quickstart), strings.Join(command, " "))
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir = quickstart
		output, err := cmd.CombinedOutput()
		if err != nil {
			fmt.Fprintln(out)
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, output)
		}
		fmt.Fprintf(out, "   # took %.1f s\n", time.Since(start).Seconds())
	}
	return binary, nil
}
