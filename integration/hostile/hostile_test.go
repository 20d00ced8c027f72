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
	os.Exit(leak.Main(m))
}

// TestOthersAreNotHurt is make hostile in short: a few ways, and bounds that a busy machine keeps.
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
	b := bounds
	b.lines = 10 // a few seconds see the lines that are written before a source of lines is silenced
	b.heard = 8 * time.Second
	if racing {
		b.memory, b.processor = 3, 2
	} else {
		b.processor = 0.5
	}
	for _, name := range []string{"servers", "bad configs"} {
		i := slices.IndexFunc(ways, func(way way) bool { return way.name == name })
		r := w.run(t.Context(), ways[i], times{calm: time.Second, attack: 2 * time.Second})
		t.Log(r)
		if excess := r.excess(b); len(excess) > 0 {
			t.Errorf("%s:\n%s\nThe log:\n%s", name, strings.Join(excess, "\n"), strings.Join(r.Sample, ""))
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
		{"ended", func(r *result) { r.Err = "the caller ended" }},
		{"2 of 1000 calls failed", func(r *result) { r.Failed = 2 }},
		{"1 calls failed after a start", func(r *result) { r.AgainFailed = 1 }},
		{"not reached", func(r *result) { r.Unheard = "not reached" }},
		{"memory x 1.60", func(r *result) { r.PeakKiB = 1600 }},
		{"memory x 1.70", func(r *result) { r.AgainKiB = 1700 }},
		{"0.30 of a core", func(r *result) { r.Processor = 0.3 }},
		{"1.0 log lines", func(r *result) { r.Lines = 1 }},
		{"512 descriptors", func(r *result) { r.Descriptors = 512 }},
		{"heard after 3s", func(r *result) { r.Heard = 3 * time.Second }},
	} {
		r := calm
		tt.change(&r)
		if got := r.excess(bounds); len(got) != 1 || !strings.Contains(got[0], tt.want) {
			t.Errorf("%q, want one with %q", got, tt.want)
		}
	}
}

func TestWaysAreNamedOnce(t *testing.T) {
	seen := make(map[string]bool)
	for _, way := range ways {
		if way.name == "" || way.what == "" || seen[way.name] {
			t.Errorf("%q: %q", way.name, way.what)
		}
		seen[way.name] = true
	}
}

// TestPage checks that the page has each way: it is written when all are measured.
func TestPage(t *testing.T) {
	doc, err := os.ReadFile("../../docs/measured/hostile.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range ways {
		if !strings.Contains(string(doc), fmt.Sprintf("\n| %s | %s | %s |", way.name, way.row, way.what)) {
			t.Errorf("docs/measured/hostile.md has no row %q as it is now: make hostile", way.name)
		}
	}
	if _, err := page([]result{{}}, time.Second, 0, time.Now()); err != nil {
		t.Error(err)
	}
}
