package doctor

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

const (
	// renewal is how long to wait before a lease is looked at again that has little time left. Without a renewal it then has
	// at least a second less; etcd's clients renew one when a third of its time has passed.
	renewal = 1500 * time.Millisecond
	// maxSettle bounds the wait for a lease to be renewed, or to miss that.
	maxSettle = 7 * time.Second
)

// lease is what is known of a lease.
type lease struct {
	survey.LeaseTime
	leaving  bool // an entry on it is marked as being withdrawn: it is deleted right after that
	replaced bool // an entry on it may be what an earlier run of a server left behind
	renewed  bool // it was renewed between two looks
	stale    bool // nobody renews it
	behind   bool // it was replaced, and missed a renewal
}

// readLeases looks at the time left on all leases, and again at those that have little, or whose entries are leaving or may be
// what an earlier run of a server left behind: at each when it is to have been renewed.
func (p *patient) readLeases(ctx context.Context, s *store.Store) error {
	times, err := s.Leases(ctx, survey.LeaseIDs(survey.Entries(p.services)))
	if err != nil {
		return err
	}
	p.leases = make(map[int64]lease, len(times))
	due, waited := make(map[time.Duration][]int64), time.Duration(0)
	leaving, replaced := p.suspects()
	for id, t := range times {
		l := lease{LeaseTime: t, leaving: leaving[id], replaced: replaced[id]}
		if at, doubtful := l.due(); doubtful {
			due[at] = append(due[at], id)
		}
		p.leases[id] = l
	}
	for _, at := range slices.Sorted(maps.Keys(due)) {
		store.Pause(ctx, at-waited)
		waited = at
		again, err := s.Leases(ctx, due[at])
		if err != nil {
			return err
		}
		for id, now := range again {
			p.leases[id] = p.leases[id].seen(now, at)
		}
	}
	return p.forgetGone(ctx, s)
}

// due returns when to look at a lease again, if it is to be.
func (l lease) due() (at time.Duration, doubtful bool) {
	at = renewal
	if l.replaced || l.leaving {
		at = max(at, untilLate(l.LeaseTime))
	}
	if l.RunsOut() {
		at = max(at, untilLast(l.LeaseTime))
	}
	return at, (l.RunsOut() || l.replaced || l.leaving) && at <= maxSettle
}

// seen takes in a second look at a lease, after some time. It was renewed if it has more left than was left of it then: etcd
// rounds down.
func (l lease) seen(now survey.LeaseTime, after time.Duration) lease {
	before := l.Left
	l.LeaseTime = now
	if l.renewed = !now.Expired() && time.Duration(now.Left-before-1)*time.Second > -after; !l.renewed {
		l.stale = now.Expired() || untilLast(now) <= 0
		l.behind = l.replaced && (now.Expired() || untilLate(now) <= 0)
	}
	return l
}

// untilLast returns when a lease will have next to no time left, unless it is renewed. Some renew theirs only then.
func untilLast(t survey.LeaseTime) time.Duration {
	return time.Duration(t.Left-max(t.Granted/10, 2)) * time.Second
}

// untilLate returns when a lease will have missed a renewal by more than a second, unless it is renewed.
func untilLate(t survey.LeaseTime) time.Duration {
	const late = 2 // seconds, of which one is what etcd rounds down by
	return time.Duration(t.Left-(t.Granted*2/3-late)) * time.Second
}

// suspects returns the leases of entries that are leaving, and of those in whose place a newer entry of the same layout and
// address stands, as it does when a server is restarted under another id.
func (p *patient) suspects() (leaving, replaced map[int64]bool) {
	leaving, replaced = make(map[int64]bool), make(map[int64]bool)
	for _, s := range p.services {
		newest := make(map[place]survey.Entry)
		for _, i := range s.Instances {
			at := placeOf(&i)
			switch {
			case i.Leaving():
				leaving[i.Entry.Lease] = true
			case i.Entry.Lease != 0 && i.Entry.CreateRevision > newest[at].CreateRevision:
				newest[at] = i.Entry
			}
		}
		for _, i := range s.Instances {
			if n := newest[placeOf(&i)]; n.Lease != i.Entry.Lease && n.CreateRevision > i.Entry.CreateRevision {
				replaced[i.Entry.Lease] = true
			}
		}
	}
	return leaving, replaced
}

// forgetGone leaves out the entries that went with their leases meanwhile, as they should.
func (p *patient) forgetGone(ctx context.Context, s *store.Store) error {
	var failed error
	gone := func(i survey.Instance) bool {
		if i.Entry.Lease == 0 || !p.leases[i.Entry.Lease].Expired() && !i.Leaving() {
			return false
		}
		found, err := s.Get(ctx, i.Entry.Key)
		if err != nil {
			failed = err
		}
		return err == nil && (found == nil || found.Lease != i.Entry.Lease)
	}
	for _, service := range p.services {
		service.Instances = slices.DeleteFunc(service.Instances, gone)
		service.Malformed = slices.DeleteFunc(service.Malformed, gone)
	}
	return failed
}
