// Command hostile shows that whoever may write the keys of one service, or its live config, cannot hurt the calls
// to other services.
//
// A process with 512 file descriptors and 1 GiB of memory calls ten services, of 25 servers each, through one
// registry. Somebody with the right to write the keys of one of them, or its live config, and nothing else, does one
// thing after the other. Each is measured against the same process undisturbed: what fails of the calls to the nine
// other services, how much memory and processor it takes, what it logs, and how soon it hears of honest changes.
//
// It needs Linux, for it reads what a process takes from /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	if text := os.Getenv(callerEnv); text != "" {
		exit(runCaller(text))
	}
	only := flag.String("way", "", "measure only the ways whose names match this `pattern`")
	duration := flag.Duration("for", 8*time.Second, "how long each way goes on")
	own := flag.Int("own", 0, "how many `MiB` the caller keeps in use besides")
	out := flag.String("write", "", "write the page to this `file`, if all ways are measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, *only, *duration, *own, *out))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// unfit says why this machine cannot be measured on.
func unfit() error {
	if goruntime.GOOS != "linux" {
		return errors.New("it needs Linux, for it reads what a process takes from /proc")
	}
	return nil
}

func run(ctx context.Context, only string, duration time.Duration, own int, out string) error {
	if err := unfit(); err != nil {
		return err
	}
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		return err
	}
	w, err := newWorld(dir)
	if err != nil {
		return err
	}
	defer w.close()
	w.own = own
	var results []result
	hurt := 0
	for _, way := range ways {
		if !pattern.MatchString(way.name) {
			continue
		}
		r := w.run(ctx, way, times{start: time.Second, calm: 2 * time.Second, attack: duration})
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		fmt.Println(r)
		results = append(results, r)
		if excess := r.excess(bounds); len(excess) > 0 {
			hurt++
			fmt.Printf("HURTS: %s\n%s\n", strings.Join(excess, "; "), r.details())
		}
	}
	if out != "" && len(results) == len(ways) {
		doc, err := page(results, duration, own, time.Now())
		if err == nil {
			err = os.WriteFile(out, doc, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if hurt > 0 {
		return fmt.Errorf("%d of %d ways hurt", hurt, len(results))
	}
	return nil
}
