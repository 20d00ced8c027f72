package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// snapshots is the snapshot directory of a caller, and what its lives are to find there. Whoever holds the caller's turn may
// change it.
type snapshots struct {
	dir    string    // "": none
	fails  int       // how many steps keep it away
	spoilt time.Time // when it was last damaged
	knew   []string  // what the last life knew when it ended
	exact  bool      // ... and etcd had told it so, and the directory is to have it
}

// newSnapshots makes a directory for a caller, if it is to have one, below that of the world.
func newSnapshots(w *world, index int, spec schedule.Caller) snapshots {
	if !spec.Snapshots {
		return snapshots{}
	}
	return snapshots{dir: filepath.Join(w.tempDir(), fmt.Sprint(index))}
}

// tempDir returns the directory of the world, which is removed with it.
func (w *world) tempDir() string {
	if w.temp == "" {
		dir, err := os.MkdirTemp("", "simulation")
		must(err)
		w.temp = dir
	}
	return w.temp
}

// noteKnown notes what a life knows as it ends, before its registry is closed, if all is calm and etcd has told it so.
func (c *caller) noteKnown() {
	s, status := &c.snapshots, keyStatus(c.registry, acme.ShopKey)
	s.knew, s.exact = acme.Addrs(status.Endpoints), c.w.calmSince(time.Now()) && status.Changed.After(s.spoilt)
}

// fail takes the directory away until the returned function is called as often: a file is in its place.
func (s *snapshots) fail() (end func()) {
	away := s.dir + ".away"
	if s.fails++; s.fails == 1 {
		move(s.dir, away)
		must(os.WriteFile(s.dir, nil, 0o600))
	}
	return func() {
		if s.fails--; s.fails == 0 {
			must(os.Remove(s.dir))
			move(away, s.dir)
		}
	}
}

// move moves what is at one path to another, if there is anything.
func move(from, to string) {
	if err := os.Rename(from, to); err != nil && !os.IsNotExist(err) {
		panic(err)
	}
}

// falseHost is where the addresses in a damaged snapshot begin. No host has such an address.
const falseHost = "19."

// damage has each file name other addresses.
func (s *snapshots) damage() {
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	must(err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(err)
		must(os.WriteFile(file, bytes.ReplaceAll(text, []byte(`"10.`), []byte(`"`+falseHost)), 0o600))
	}
	s.spoilt, s.exact = time.Now(), false
}

// keep keeps the directory as it is now, until the returned function puts it back.
func (s *snapshots) keep() (back func()) {
	if s.dir == "" || s.fails > 0 {
		return func() {}
	}
	kept := s.dir + ".kept"
	must(os.RemoveAll(kept))
	if err := os.CopyFS(kept, os.DirFS(s.dir)); err != nil && !os.IsNotExist(err) {
		panic(err)
	}
	return func() {
		must(os.RemoveAll(s.dir))
		move(kept, s.dir)
	}
}

const (
	// written is how soon a change is in the directory at the latest, be it one of many.
	written = 12 * time.Second
	// recalls is how soon a caller that starts while it cannot reach etcd uses what its last life knew.
	recalls = 8 * time.Second
	// alone is how long each caller is to live by that, in the end.
	livesAlone = recalls + time.Second
)

// startsAlone restarts a caller, whose next life cannot reach etcd for a time. If the last one is killed, nothing is written as it
// ends.
func (c *caller) startsAlone(ctx context.Context, d time.Duration, killed bool) {
	c.stops(ctx, killed)
	c.livesAlone(ctx, d)
}

// livesAlone has a caller that is stopped live for a time without etcd.
func (c *caller) livesAlone(ctx context.Context, d time.Duration) {
	if !c.begins(ctx, true) {
		return
	}
	life, from := c.current()
	time.Sleep(min(d, recalls))
	if now, _ := c.current(); now == life && d >= recalls {
		c.judgeRecalled(ctx)
	}
	time.Sleep(d - min(d, recalls))
	c.setLine(from, network.Link{})
}

// judgeRecalled judges what a life that cannot reach etcd knows, and whether it calls that.
func (c *caller) judgeRecalled(ctx context.Context) {
	registry := c.running()
	if registry == nil {
		return
	}
	status := keyStatus(registry, acme.ShopKey)
	addrs, knew := acme.Addrs(status.Endpoints), c.snapshots.knew
	switch {
	case slices.ContainsFunc(addrs, func(addr string) bool { return strings.HasPrefix(addr, falseHost) }):
		c.w.report(check.Recalled, "%s uses a damaged snapshot: %v", c.name(), addrs)
	case c.spec.Parts: // it has no endpoints to know its cluster by
		if len(addrs) > 0 {
			c.w.report(check.Recalled, "%s cannot reach etcd and knows %v, of whichever cluster", c.name(), addrs)
		}
	case !c.snapshots.exact:
	case len(knew) > 0 && !slices.Equal(addrs, knew):
		c.w.report(check.Recalled, "%s cannot reach etcd and knows %v, and its last life knew %v", c.name(), addrs, knew)
	case status.Known && (!status.Provisional || status.Err == nil):
		c.w.report(check.Recalled, "%s cannot reach etcd, and does not say of %v that they may be behind: %v", c.name(), addrs, status.Err)
	}
	if c.spec.Parts || len(knew) == 0 || !c.snapshots.exact || c.idle.Load() {
		return
	}
	if from := c.call(ctx, c.clients, acme.Who, ""); from == "" {
		c.w.report(check.Recalled, "%s cannot reach etcd and knows %v, which it can reach, and a call fails", c.name(), addrs)
	}
}

// liveAlone has all callers with snapshots live by them for a while, once all is written.
func (t *trial) liveAlone(ctx context.Context) {
	time.Sleep(written)
	var alone []*caller
	for _, c := range t.callers {
		if c.snapshots.dir != "" {
			c.stops(ctx, c.index%2 == 0)
			alone = append(alone, c)
		}
	}
	t.setCalm(false)
	var all sync.WaitGroup
	for _, c := range alone {
		all.Go(func() { c.livesAlone(ctx, livesAlone) })
	}
	all.Wait()
}

// diskFails takes the snapshot directory of a caller away.
func (t *trial) diskFails(s schedule.Step) (end func()) {
	c := t.caller(s.Who)
	var back func()
	c.do(func() { back = c.snapshots.fail() })
	return func() { c.do(back) }
}
