// Package walk stands in for the simulation's own: it obeys the same flags, and some of its seeds fail.
package walk

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

var (
	first = flag.Uint64("first", 1, "the first seed")
	seeds = flag.Int("seeds", 1, "how many seeds")
	file  = flag.String("schedule", "", "a schedule")
	times = flag.Int("times", 1, "how often")
	out   = flag.String("out", "", "where to append results")

	_ = flag.Int("minutes", 0, "not obeyed")
)

// The seeds with which something is wrong.
const (
	failing  = 3
	crashing = 5
	hanging  = 8
)

func TestWalk(t *testing.T) {
	if *file != "" {
		s, err := schedule.Load(*file)
		if err != nil {
			t.Fatal(err)
		}
		for range *times {
			walk(t, s)
		}
		return
	}
	for seed := *first; seed < *first+uint64(*seeds); seed++ {
		walk(t, schedule.New(seed))
	}
}

func walk(t *testing.T, s schedule.Schedule) {
	switch s.Seed {
	case crashing:
		panic("a panic of the schedule's own")
	case hanging:
		time.Sleep(time.Hour)
	}
	var trace string
	synctest.Test(t, func(*testing.T) { trace = bubble() })
	var problems []map[string]any
	if s.Seed == failing && len(s.Steps) > 0 {
		problems = append(problems, map[string]any{"rule": "no steps", "at": 1500 * time.Millisecond, "text": fmt.Sprint(len(s.Steps))})
		t.Errorf("seed %d: %v", s.Seed, problems)
	}
	report(t, map[string]any{
		"seed": s.Seed, "virtual": "1m20s", "faults": len(s.Steps), "took": "1ms", "problems": problems, "trace": trace,
	})
}

func report(t *testing.T, line map[string]any) {
	b, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(b, '\n')); err != nil {
		t.Fatal(err)
	}
}

// bubble does what Go leaves to chance: selects, timers of one instant, map iteration, random numbers, addresses as keys,
// goroutines that become ready together, a contended mutex.
func bubble() string {
	trace := fnv.New64a()
	var mu sync.Mutex
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(trace, format, args...)
	}
	a, b, done := make(chan int), make(chan int), make(chan struct{})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			byAddress := map[*int]int{}
			byName := map[string]int{}
			for round := 0; ; round++ {
				byAddress[new(int)] = round
				byName[fmt.Sprint(worker, round)] = round
				select {
				case n := <-a:
					note("%d a %d\n", worker, n)
				case n := <-b:
					note("%d b %d\n", worker, n)
				case <-time.After(time.Duration(rand.IntN(3)) * time.Millisecond):
					mu.Lock()
					runtime.Gosched()
					work(trace)
					mu.Unlock()
				case <-done:
					note("%d %v %v\n", worker, values(byAddress), values(byName))
					return
				}
			}
		})
	}
	for n := range 300 {
		select {
		case a <- n:
		case b <- n:
		}
	}
	close(done)
	wg.Wait()
	return fmt.Sprintf("%016x", trace.Sum64())
}

// work takes long enough for the monitor thread to notice, now and then.
func work(w io.Writer) {
	for range rand.IntN(20_000) {
		fmt.Fprint(w, ".")
	}
}

func values[K comparable](m map[K]int) []int {
	var all []int
	for _, v := range m {
		all = append(all, v)
	}
	return slices.Clip(all)
}
