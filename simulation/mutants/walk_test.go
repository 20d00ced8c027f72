package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The flags of package walk's test, of which TestWalk stands in for.
var (
	first = flag.Uint64("first", 0, "")
	seeds = flag.Int("seeds", 0, "")
	out   = flag.String("out", "", "")
)

// What happens to seed 3 of TestWalk.
const happens = "MUTANTS_TEST_HAPPENS"

// TestWalk is the walk that TestARunOfSchedules starts. By itself it does nothing.
func TestWalk(t *testing.T) {
	if *out == "" {
		return
	}
	f, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range *seeds {
		seed, problems := *first+uint64(i), "null"
		if seed == 3 {
			switch os.Getenv(happens) {
			case "problem":
				problems = `[{"rule":"a call fails"},{"rule":"an entry is gone"}]`
			case "panic":
				panic("all goroutines are blocked")
			case "slow":
				time.Sleep(time.Hour)
			}
		}
		if _, err := fmt.Fprintf(f, "{\"seed\":%d,\"problems\":%s}\n", seed, problems); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARunOfSchedules(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{root: t.TempDir(), options: options{first: 2, budget: 10 * time.Second}}
	if err := os.MkdirAll(filepath.Join(r.root, walkDir), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		happens string
		done    int
		seed    uint64
		why     string
	}{
		{"nothing", 4, 6, ""},
		{"problem", 1, 3, "a call fails"},
		{"panic", 1, 3, "panic: all goroutines are blocked"},
		{"slow", 1, 3, ""},
	} {
		t.Run(tt.happens, func(t *testing.T) {
			t.Setenv(happens, tt.happens)
			if tt.happens == "slow" {
				r.budget = 5 * time.Second // for a process that may start slowly
			}
			w, err := r.walk(t.Context(), binary, 4)
			if err != nil {
				t.Fatal(err)
			}
			if w.done != tt.done || w.seed != tt.seed || !strings.HasPrefix(w.why, tt.why) || w.why != "" && tt.why == "" {
				t.Errorf("%d are well, seed %d: %q; want %d, seed %d: %q", w.done, w.seed, w.why, tt.done, tt.seed, tt.why)
			}
		})
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := r.walk(ended, binary, 4); err == nil {
		t.Error("no error though its context has ended")
	}
}
