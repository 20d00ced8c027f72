package world

import (
	"context"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// leases keeps count of who has which lease, and which key hangs on which, as far as processes have heard. A lease whose grant
// was not answered is nobody's. Guarded by the world's mu.
type leases struct {
	granted map[string][]int64 // by where a process dials from: in order
	of      map[string]int64   // by key
}

func newLeases() leases { return leases{make(map[string][]int64), make(map[string]int64)} }

// lessee is a client's leases. It notes those that it is granted.
type lessee struct {
	clientv3.Lease
	w    *World
	from string
}

// Grant asks etcd for a lease.
func (l lessee) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	resp, err := l.Lease.Grant(ctx, ttl)
	if err == nil {
		l.w.mu.Lock()
		defer l.w.mu.Unlock()
		l.w.leases.granted[l.from] = append(l.w.leases.granted[l.from], int64(resp.ID))
	}
	return resp, err
}

// hang takes in a change of a key, and has the judge hear if a process has deleted what hung on a lease of somebody else. It must
// be called with mu held.
func (w *World) hang(c etcd.Change) {
	lease := w.leases.of[c.Key]
	if !c.Delete {
		w.leases.of[c.Key] = c.Lease
		return
	}
	delete(w.leases.of, c.Key)
	if services := strings.HasPrefix(c.Key, prefix) || strings.HasPrefix(c.Key, leaders); c.Client != "" && services && !slices.Contains(w.leases.granted[c.Client], lease) {
		w.judge.Report(c.At, check.Deleted, "%s has deleted %s, which hung on lease %x of somebody else", c.Client, c.Key, lease)
	}
}

// hangAnew takes in all keys after etcd was restored or wiped.
func (w *World) hangAnew() {
	entries := append(w.etcd.Entries(prefix), w.etcd.Entries(leaders)...)
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.leases.of)
	for _, e := range entries {
		w.leases.of[e.Key] = e.Lease
	}
}

// leasesLeft returns the leases of a process, in the order of their grants, that etcd has.
func (w *World) leasesLeft(from string) []int64 {
	has := w.etcd.Leases()
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []int64
	for _, id := range w.leases.granted[from] {
		if slices.ContainsFunc(has, func(l etcd.Lease) bool { return l.ID == id }) {
			left = append(left, id)
		}
	}
	return left
}

// heardOfReset is how soon processes know that etcd was restored.
const heardOfReset = 15 * time.Second

// returned checks that a process which has closed its registry, beginning at a time, has left no lease in etcd.
func (p *process) returned(began time.Time) {
	if left := p.w.leasesLeft(p.from); len(left) > 0 && !p.w.resetSince(began.Add(-heardOfReset)) {
		p.w.report(check.LeftBehind, "Registry.Close of %s returned nil, and etcd has its leases %x", p.name(), left)
	}
}
