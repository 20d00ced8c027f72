package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// chanceVar names the environment variable that seeds the runtime made by writeOverlay.
const chanceVar = "SIMULATE_CHANCE"

// replayedGo is the Go whose runtime the edits are of.
const replayedGo = "go1.26"

// An edit replaces what is found exactly once in a file of the standard library.
type edit struct {
	file, from, to string
}

// edits leave nothing in a bubble to chance or to real time. Bubbled goroutines draw from one seeded generator: map
// iteration and hash seeds and math/rand (rand), the order of a select, of timers of one instant and of goroutines that
// become ready. Everything outside bubbles keeps its own generators, so that it cannot advance that of a bubble. The
// monitor thread, which takes the processor from who keeps it too long, is not started, and no mutex starves.
var edits = []edit{
	{"runtime/rand.go", "	globalRand.state.Init(*seed)\n", "	*seed = [32]byte{}\n	globalRand.state.Init(*seed)\n"},
	{"runtime/rand.go", "func rand() uint64 {\n", "func rand() uint64 {\n	if getg().bubble != nil {\n		return bubbleRand()\n	}\n"},
	{"runtime/rand.go", "var readRandomFailed bool\n", `var readRandomFailed bool

// bubbleRandState is that of bubbleRand, the generator of goroutines in a bubble.
var bubbleRandState uint64

//go:nosplit
func bubbleRand() uint64 { // splitmix64
	bubbleRandState += 0x9e3779b97f4a7c15
	z := bubbleRandState
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

//go:nosplit
func bubbleRandn(n uint32) uint32 { return uint32(bubbleRand() >> 32 * uint64(n) >> 32) }
`},
	{"runtime/select.go", "		j := cheaprandn(uint32(norder + 1))\n", `		j := uint32(0)
		if gp.bubble != nil {
			j = bubbleRandn(uint32(norder + 1))
		} else {
			j = cheaprandn(uint32(norder + 1))
		}
`},
	{"runtime/time.go", "			t.rand = cheaprand()\n", "			t.rand = uint32(bubbleRand())\n"},
	{"runtime/proc.go", "	goenvs()\n	secure()\n", `	goenvs()
	if seed, err := strconv.ParseUint(gogetenv("` + chanceVar + `"), 10, 64); err == nil {
		bubbleRandState = seed
	}
	secure()
`},
	{"runtime/proc.go", "	if haveSysmon {\n", "	if false {\n"},
	{"runtime/proc.go", "	if randomizeScheduler && next && randn(2) == 0 {\n", "	if next && gp.bubble != nil && bubbleRandn(2) == 0 {\n"},
	{"runtime/proc.go", "	notewakeup(&mp.park)\n	stopm()\n", `	self := getg().m
	lock(&sched.lock)
	mput(self)
	unlock(&sched.lock)
	notewakeup(&mp.park)
	mPark()
	acquirep(self.nextp.ptr())
	self.nextp = 0
`},
	{
		"runtime/sema.go",
		"func internal_sync_nanotime() int64 {\n	return nanotime()\n",
		"func internal_sync_nanotime() int64 {\n	return 1\n",
	},
}

// writeOverlay writes the edited files of Go's runtime to dir, for go build's -overlay, and returns the file to give it.
// goroot and version are of the Go that builds.
func writeOverlay(dir, goroot, version string) (string, error) {
	if version != replayedGo && !strings.HasPrefix(version, replayedGo+".") {
		return "", fmt.Errorf("exact replay edits the runtime of %s, and this is %s: use GOTOOLCHAIN=%s.0 or leave out -replay",
			replayedGo, version, replayedGo)
	}
	contents := map[string]string{}
	for _, e := range edits {
		if _, ok := contents[e.file]; !ok {
			b, err := os.ReadFile(filepath.Join(goroot, "src", filepath.FromSlash(e.file)))
			if err != nil {
				return "", fmt.Errorf("reading Go's runtime: %w", err)
			}
			contents[e.file] = string(b)
		}
		if n := strings.Count(contents[e.file], e.from); n != 1 {
			return "", fmt.Errorf("exact replay does not know the runtime of %s: %s has %q %d times, not once",
				version, e.file, strings.TrimSpace(e.from), n)
		}
		contents[e.file] = strings.Replace(contents[e.file], e.from, e.to, 1)
	}
	replace := map[string]string{}
	for file, content := range contents {
		edited := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(edited, []byte(content), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(goroot, "src", filepath.FromSlash(file))] = edited
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, overlay, 0o644)
}
