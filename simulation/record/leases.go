package record

import (
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// Granted notes that the life that dials from a host was granted a lease. One whose grant was not answered is nobody's.
func (r *Record) Granted(from string, lease int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.granted[from] = append(r.granted[from], lease)
}

// hang takes in a change of a key, and has the judge hear if a process has deleted what hung on a lease of somebody else. It must
// be called with mu held.
func (r *Record) hang(c etcd.Change) {
	lease := r.leases[c.Key]
	if !c.Delete {
		r.leases[c.Key] = c.Lease
		return
	}
	delete(r.leases, c.Key)
	ours := strings.HasPrefix(c.Key, acme.Prefix) && !strings.HasSuffix(c.Key, acme.Added) || strings.HasPrefix(c.Key, acme.Leaders)
	if c.Client != "" && ours && !slices.Contains(r.granted[c.Client], lease) && !r.succeeds(c, lease) {
		r.judge.Report(c.At, check.Deleted, "%s has deleted %s, which hung on lease %x of somebody else", c.Client, c.Key, lease)
	}
}

// succeeds reports whether a deleted key is what an earlier life of the process, an operator without a lease, or another with its
// instance id before it, has put in the place of its own: a life that begins paused takes that out.
func (r *Record) succeeds(c etcd.Change, lease int64) bool {
	process := r.Plan.ProcessAt(c.Client)
	if !strings.HasPrefix(c.Key, acme.Prefix) || process < 0 || process >= len(r.Plan.Servers) {
		return false
	}
	// An earlier life without a name may have been at another port.
	own := strings.HasSuffix(c.Key, "/"+r.Plan.Instance(process)) || strings.Contains(c.Key, "/"+r.Plan.Host(process)+":")
	if lease == acme.NoLease {
		return own
	}
	for from, leases := range r.granted {
		if r.Plan.ProcessAt(from) == process && slices.Contains(leases, lease) {
			return true
		}
	}
	// It cannot know that the other lives, unless it has itself been there.
	return own && !slices.ContainsFunc(r.commits, func(put etcd.Change) bool {
		return put.Client == c.Client && put.Key == c.Key && slices.Contains(r.granted[c.Client], put.Lease)
	})
}

// LeasesLeft returns the leases of a life, in the order of their grants, that etcd has.
func (r *Record) LeasesLeft(from string) []int64 { return r.Etcd.Left(r.Leases(from)) }

// Leases returns all leases that the life that dials from a host was granted.
func (r *Record) Leases(from string) []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.granted[from])
}

// HasPutSince reports whether the life that dials from a host has put a key on a lease since a time.
func (r *Record) HasPutSince(at time.Time, from, key string, lease int64) bool {
	return slices.ContainsFunc(r.Since(at), func(c etcd.Change) bool {
		return c.Client == from && !c.Delete && c.Key == key && c.Lease == lease
	})
}

// Forced notes that a lease is about to be revoked by force.
func (r *Record) Forced(lease int64) {
	if slices.ContainsFunc(r.Etcd.Entries(acme.Candidates), func(e etcd.Entry) bool { return e.Lease == lease }) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.forced = time.Now()
	}
}
