package harness

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// snapshots is the snapshot directory of a caller, with the content that the
// next incarnation should find. The holder of the caller's turn may change it.
type snapshots struct {
	temp   string    // the directory to remove at the end; "" without snapshots
	dir    string    // the snapshot directory, in temp; "" without snapshots
	fails  int       // the number of steps during which the directory is missing
	spoilt time.Time // when the directory was last damaged
	knew   []string  // the addresses that the last incarnation knew

	// etcd had confirmed the addresses of the field knew: then the directory
	// must have them
	exact bool
}

// newSnapshots makes a directory for a caller with snapshots.
func newSnapshots(spec schedule.Caller) snapshots {
	if !spec.Snapshots {
		return snapshots{}
	}

	temp, err := os.MkdirTemp("", "simulation")
	must(err)

	return snapshots{temp: temp, dir: filepath.Join(temp, "snapshots")}
}

// fail replaces the directory by a file. The directory is back once end was
// called for each call of fail.
func (s *snapshots) fail() (end func()) {
	away := s.dir + ".away"
	s.fails++

	if s.fails == 1 {
		move(s.dir, away)
		must(os.WriteFile(s.dir, nil, 0o600))
	}

	return func() {
		s.fails--

		if s.fails == 0 {
			must(os.Remove(s.dir))
			move(away, s.dir)
		}
	}
}

// move renames a file or directory, if it exists.
func move(from, to string) {
	if err := os.Rename(from, to); err != nil && !os.IsNotExist(err) {
		panic(err)
	}
}

// damage cuts each file in half.
func (s *snapshots) damage() {
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	must(err)

	for _, file := range files {
		text, err := os.ReadFile(file)
		must(err)
		must(os.WriteFile(file, text[:len(text)/2], 0o600))
	}

	s.spoilt = time.Now()
	s.exact = false
}

// freeze keeps the present content of the directory for the next incarnation,
// despite later writes.
func (s *snapshots) freeze() {
	if s.dir == "" || s.fails > 0 {
		return
	}

	frozen := s.dir + "'"
	if err := os.CopyFS(frozen, os.DirFS(s.dir)); err != nil && !os.IsNotExist(err) {
		panic(err)
	}

	s.dir = frozen
}

const (
	// written bounds the time until a change is in the snapshot.
	written = 12 * time.Second

	// recalls bounds the time until a caller that starts without etcd uses its
	// snapshot.
	recalls = 8 * time.Second

	// aloneTime is how long callers run on their snapshots at the end of a
	// world.
	aloneTime = recalls + time.Second
)

// startAlone starts a stopped caller without a link to etcd for a time.
func (c *caller) startAlone(d time.Duration) {
	if !c.start(true) {
		return
	}

	incarnation, from := c.current()
	time.Sleep(min(d, recalls))

	if now, _ := c.current(); now == incarnation && d >= recalls {
		c.judgeRecalled()
	}

	time.Sleep(d - min(d, recalls))
	c.w.setLine(from, network.Link{})
}

// judgeRecalled checks that an incarnation without etcd knows the addresses of
// its snapshot and calls them.
func (c *caller) judgeRecalled() {
	registry := c.running()
	if registry == nil {
		return
	}

	status := keyStatus(registry, fixtures.ShopKey)
	addrs := fixtures.Addrs(status.Endpoints)
	knew := c.snapshots.knew

	switch {
	case !c.snapshots.exact:
	case len(knew) > 0 && !slices.Equal(addrs, knew):
		c.w.report(check.Recalled,
			"%s cannot reach etcd and knows %v, want %v as its last incarnation",
			c.name(), addrs, knew)

	case status.Known && (!status.Provisional || status.Err == nil):
		c.w.report(check.Recalled,
			"%s without etcd knows %v with the error %v, want an error that they may be stale",
			c.name(), addrs, status.Err)
	}

	if len(knew) == 0 || !c.snapshots.exact || c.idle.Load() {
		return
	}

	from := c.call(context.Background(), fixtures.Who, "")
	if from == "" {
		c.w.report(check.Recalled,
			"%s cannot reach etcd but knows and reaches %v: a call failed, want success",
			c.name(), addrs)
	}
}

// liveAlone makes all callers that have snapshots run without etcd for a while.
func (w *world) liveAlone() {
	time.Sleep(written)

	var alone []*caller
	for _, c := range w.callers {
		if c.snapshots.dir != "" {
			c.stop(c.index%2 == 0)
			alone = append(alone, c)
		}
	}

	w.setCalm(false)

	var all sync.WaitGroup
	for _, c := range alone {
		all.Go(func() { c.startAlone(aloneTime) })
	}

	all.Wait()
}
