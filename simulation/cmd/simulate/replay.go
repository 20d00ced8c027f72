package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/walk"
)

// A replay walks one schedule so that it goes the same way each time.
type replay struct {
	walker *walker
	chance uint64 // the seed of what Go leaves to chance
	tries  int    // how many of them to try until one fails
	times  int
	out    io.Writer
}

// buildReplay builds the test binary of pkg on a runtime that leaves nothing to chance.
func buildReplay(ctx context.Context, pkg, dir string) (string, error) {
	version, err := goEnv(ctx, "GOVERSION")
	if err != nil {
		return "", err
	}
	goroot, err := goEnv(ctx, "GOROOT")
	if err != nil {
		return "", err
	}
	overlay, err := writeOverlay(dir, goroot, version)
	if err != nil {
		return "", err
	}
	return build(ctx, pkg, dir, []string{"CGO_ENABLED=0"}, "-overlay", overlay)
}

func goEnv(ctx context.Context, name string) (string, error) {
	b, err := exec.CommandContext(ctx, "go", "env", name).Output()
	if err != nil {
		return "", fmt.Errorf("go env %s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// run replays s and reports whether it failed. Processes get nothing of the environment, so that they begin alike.
func (r *replay) run(ctx context.Context, s schedule.Schedule) (failed bool, err error) {
	chance := r.chance
	first, problems, err := r.once(ctx, s, chance)
	for try := 1; try < r.tries && err == nil && len(problems) == 0; try++ {
		chance++
		first, problems, err = r.once(ctx, s, chance)
	}
	if err != nil {
		return false, err
	}
	traces := map[string]int{first: 1}
	for range r.times - 1 {
		trace, again, err := r.once(ctx, s, chance)
		if err != nil {
			return false, err
		}
		traces[trace]++
		problems = append(problems, again...)
	}
	commonest := slices.MaxFunc(slices.Collect(maps.Keys(traces)), func(a, b string) int { return traces[a] - traces[b] })
	fmt.Fprintf(r.out, "seed %d, chance %d: %d of %d traces are identical: %s\n",
		s.Seed, chance, traces[commonest], r.times, commonest)
	slices.SortFunc(problems, func(a, b check.Problem) int { return cmp.Compare(a.At, b.At) })
	fmt.Fprint(r.out, lines(slices.Compact(problems)))
	return len(problems) > 0, nil
}

// once walks s in a process of its own and returns its trace and its problems.
func (r *replay) once(ctx context.Context, s schedule.Schedule, chance uint64) (trace string, problems []check.Problem, err error) {
	r.walker.env = []string{
		fmt.Sprintf("%s=%d", chanceVar, chance),
		"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1",
	}
	ended, err := r.walker.walkSchedule(ctx, s, 1, func(w walk.Report) { trace, problems = w.Trace, w.Problems })
	switch {
	case err != nil:
		return "", nil, err
	case ended.stopped:
		return "", nil, ctx.Err()
	case trace == "":
		trace = "none"
	}
	if !ended.ok && len(problems) == 0 {
		problems = []check.Problem{ended.problem()}
	}
	return trace, problems, nil
}

// newWalker returns a walker of a binary that lies in a directory of its own.
func newWalker(binary string, env []string, hang time.Duration) *walker {
	return &walker{binary: binary, dir: filepath.Join(filepath.Dir(binary), "processes"), env: env, hang: hang}
}
