package doctor

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

const (
	// recheckDelay is the wait before a second read: of a lease that soon
	// expires, or of the entry of a server that fails its health check. Without
	// a renewal, the remaining time of a lease shrinks by at least a second.
	// etcd's clients renew after a third of the TTL.
	recheckDelay = 1500 * time.Millisecond

	// maxRecheckDelay bounds the wait for a lease to be renewed.
	maxRecheckDelay = 7 * time.Second
)

// lease is the state of a lease.
type lease struct {
	inventory.LeaseTime
	leaving       bool // an entry on the lease is marked as being withdrawn
	replaced      bool // the lease may have the entry of an earlier run of a server
	renewed       bool // the lease was renewed between two reads
	notRenewed    bool // the lease has certainly missed its renewals
	missedRenewal bool // the lease is replaced, and has missed a renewal
}

// readLeases reads all leases. It reads a lease again when a renewal is due, if
// the lease soon expires, has a leaving entry or may be replaced.
func (p *examination) readLeases(ctx context.Context, s *store.Store) error {
	ids := inventory.LeaseIDs(inventory.Entries(p.services))
	for _, s := range p.services {
		for _, c := range s.Candidates[:min(len(s.Candidates), 1)] {
			ids = append(ids, c.Lease)
		}
	}

	times, err := s.Leases(ctx, ids)
	if err != nil {
		return err
	}

	p.leases = make(map[int64]lease, len(times))
	due := make(map[time.Duration][]int64) // the leases to read again
	leaving, replaced := p.suspectLeases()

	for id, t := range times {
		l := lease{LeaseTime: t, leaving: leaving[id], replaced: replaced[id]}
		if at, doubtful := l.recheckAfter(); doubtful {
			due[at] = append(due[at], id)
		}

		p.leases[id] = l
	}

	waited := time.Duration(0)
	for _, at := range slices.Sorted(maps.Keys(due)) {
		store.Pause(ctx, at-waited)
		waited = at

		rechecked, err := s.Leases(ctx, due[at])
		if err != nil {
			return err
		}

		for id, now := range rechecked {
			p.leases[id] = p.leases[id].rechecked(now, at)
		}
	}

	return p.dropGone(ctx, s)
}

// recheckAfter returns when to read a lease again, and whether that is
// necessary.
func (l lease) recheckAfter() (at time.Duration, doubtful bool) {
	at = recheckDelay
	if l.replaced || l.leaving {
		at = max(at, untilMissedRenewal(l.LeaseTime))
	}

	if l.RunsOut() {
		at = max(at, untilAlmostExpired(l.LeaseTime))
	}

	return at, (l.RunsOut() || l.replaced || l.leaving) && at <= maxRecheckDelay
}

// rechecked returns the lease updated by a second read. The lease was renewed
// if its remaining time is over 1 s longer than expected. The second allows for
// etcd's rounding.
func (l lease) rechecked(now inventory.LeaseTime, after time.Duration) lease {
	before := l.Remaining
	l.LeaseTime = now

	l.renewed = !now.Expired() &&
		time.Duration(now.Remaining-before-1)*time.Second > -after
	if !l.renewed {
		l.notRenewed = now.Expired() || untilAlmostExpired(now) <= 0
		l.missedRenewal = l.replaced && (now.Expired() || untilMissedRenewal(now) <= 0)
	}

	return l
}

// untilAlmostExpired returns how long until a lease has almost expired, unless
// it is renewed. Some clients renew only then.
func untilAlmostExpired(t inventory.LeaseTime) time.Duration {
	return time.Duration(t.Remaining-max(t.Granted/10, 2)) * time.Second
}

// untilMissedRenewal returns how long until a lease has missed a renewal by
// more than a second.
func untilMissedRenewal(t inventory.LeaseTime) time.Duration {
	const grace = 2 // seconds; etcd rounds down by up to one
	return time.Duration(t.Remaining-(t.Granted*2/3-grace)) * time.Second
}

// suspectLeases returns the leases of leaving entries, and the leases of
// replaced entries: a newer entry has the same layout and address, as after a
// restart under another id.
func (p *examination) suspectLeases() (leaving, replaced map[int64]bool) {
	leaving = make(map[int64]bool)
	replaced = make(map[int64]bool)

	for _, s := range p.services {
		newest := make(map[location]inventory.Entry)
		for _, i := range s.Instances {
			at := locationOf(&i)
			switch {
			case i.Leaving():
				leaving[i.Entry.Lease] = true
			case i.Entry.Lease != 0 && i.Entry.CreateRevision > newest[at].CreateRevision:
				newest[at] = i.Entry
			}
		}

		for _, i := range s.Instances {
			n := newest[locationOf(&i)]
			if n.Lease != i.Entry.Lease && n.CreateRevision > i.Entry.CreateRevision {
				replaced[i.Entry.Lease] = true
			}
		}
	}

	return leaving, replaced
}

// dropGone removes entries that were deleted or marked as leaving since they
// were read, and their candidates. It rereads only entries that seem dead or
// leaving.
func (p *examination) dropGone(ctx context.Context, s *store.Store) (err error) {
	for _, service := range p.services {
		gone := func(i inventory.Instance) bool {
			dead := p.leases[i.Entry.Lease].Expired() ||
				p.dialErrors[i.Addr] != nil ||
				p.health[serviceAddr{i.Service, i.Addr}].failed()
			if err != nil || i.Entry.Lease == 0 || !dead && !i.Leaving() {
				return false
			}

			var found *inventory.Entry
			found, err = s.GetAt(ctx, i.Entry.Key, 0)
			if err != nil {
				return false
			}

			if found != nil && found.Lease == i.Entry.Lease {
				now := inventory.Of(i.Service, []inventory.Entry{*found})
				if i.Leaving() || len(now.Merged().Instances) > 0 {
					return false
				}
			}

			service.Candidates = slices.DeleteFunc(service.Candidates,
				func(c inventory.Candidate) bool { return c.Instance == i.Instance })

			return true
		}

		service.Instances = slices.DeleteFunc(service.Instances, gone)
		service.Malformed = slices.DeleteFunc(service.Malformed, gone)
	}

	return err
}
