package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(callerEnv); text != "" {
		exit(runCaller(text))
	}
	os.Exit(leak.Main(4, m.Run))
}

// TestOthersAreNotHurt is make hostile in short: a few ways, and no figure that a busy machine changes.
func TestOthersAreNotHurt(t *testing.T) {
	kit.Night(t)
	if problem := unfit(); problem != nil {
		t.Skip(problem)
	}
	w, err := newWorld(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	const any = 1e9
	for _, name := range []string{"servers", "bad configs"} {
		i := slices.IndexFunc(ways, func(way way) bool { return way.name == name })
		r := w.run(t.Context(), ways[i], times{calm: time.Second, attack: 2 * time.Second})
		t.Log(r)
		if excess := r.excess(limits{any, any, any, visitTimeout}); len(excess) > 0 {
			t.Errorf("%s: %q\n%s", name, excess, r.details())
		}
	}
}

func TestExcess(t *testing.T) {
	calm := result{Calls: 1000, CalmKiB: 1000, PeakKiB: 1400, AgainKiB: 1100, Processor: 0.1, Lines: 0.5, Descriptors: 300, Heard: time.Second}
	if got := calm.excess(bounds); len(got) > 0 {
		t.Errorf("a calm caller: %q", got)
	}
	for _, tt := range []struct {
		want   string
		change func(*result)
	}{
		{"failed calls: 0 of 1000; ended", func(r *result) { r.Err = "ended" }},
		{"failed calls: 3 of 1000", func(r *result) { r.Failed, r.AgainFailed = 2, 1 }},
		{"memory: 0 to 1 MiB, x 1.60", func(r *result) { r.PeakKiB = 1600 }},
		{"memory: 0 to 1 MiB, x 1.70", func(r *result) { r.AgainKiB = 1700 }},
		{"cores: 0.30", func(r *result) { r.Processor = 0.3 }},
		{"log lines a second: 1.0", func(r *result) { r.Lines = 1 }},
		{"descriptors: 512", func(r *result) { r.Descriptors = 512 }},
		{"heard: 3s", func(r *result) { r.Heard = 3 * time.Second }},
		{"heard: not in 10s", func(r *result) { r.Unheard = "not reached" }},
	} {
		r := calm
		tt.change(&r)
		if got := r.excess(bounds); len(got) != 1 || got[0] != tt.want {
			t.Errorf("%q, want %q alone", got, tt.want)
		}
	}
}

// TestPage checks that each way has a name of its own and is on the page, which is written when all are measured.
func TestPage(t *testing.T) {
	doc, err := os.ReadFile("../../docs/measured/hostile.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, way := range ways {
		if seen[way.name] {
			t.Errorf("two ways are called %q", way.name)
		}
		seen[way.name] = true
		if !strings.Contains(string(doc), fmt.Sprintf("\n| %s | %s | %s |", way.name, way.row, way.what)) {
			t.Errorf("docs/measured/hostile.md has no row %q as it is now: make hostile", way.name)
		}
	}
	if _, err := page([]result{{}}, time.Second, 0, time.Now()); err != nil {
		t.Error(err)
	}
}
