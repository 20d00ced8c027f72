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

// readLeases looks at the time left on all leases, and again at those that have little, or whose entries are leaving or may be
// what an earlier run of a server left behind: at each when it is to have been renewed.
func (p *patient) readLeases(ctx context.Context, s *store.Store) (err error) {
	if p.leases, err = s.Leases(ctx, survey.LeaseIDs(p.examined())); err != nil {
		return err
	}
	p.stale, p.behind, p.renewed = make(map[int64]bool), make(map[int64]bool), make(map[int64]bool)
	replaced, waited := p.replaced(), time.Duration(0)
	due := p.doubtful(replaced)
	for _, at := range slices.Sorted(maps.Keys(due)) {
		store.Pause(ctx, at-waited)
		waited = at
		again, err := s.Leases(ctx, due[at])
		if err != nil {
			return err
		}
		p.compare(again, replaced)
	}
	return p.forgetGone(ctx, s)
}

// doubtful returns the leases to look at again, by when.
func (p *patient) doubtful(replaced map[int64]bool) map[time.Duration][]int64 {
	due, leaving := make(map[time.Duration][]int64), p.leaving()
	for id, t := range p.leases {
		at := renewal
		if replaced[id] || leaving[id] {
			at = max(at, untilLate(t))
		}
		if t.RunsOut() {
			at = max(at, untilLast(t))
		}
		if (t.RunsOut() || replaced[id] || leaving[id]) && at <= maxSettle {
			due[at] = append(due[at], id)
		}
	}
	return due
}

// compare takes in a second look at leases.
func (p *patient) compare(again map[int64]survey.LeaseTime, replaced map[int64]bool) {
	for id, now := range again {
		before := p.leases[id]
		p.leases[id] = now
		if p.renewed[id] = !now.Expired() && now.Left >= before.Left; p.renewed[id] {
			continue
		}
		p.stale[id] = now.Expired() || untilLast(now) <= 0
		p.behind[id] = replaced[id] && (now.Expired() || untilLate(now) <= 0)
	}
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

// leaving returns the leases of the entries that are marked as being withdrawn. They are deleted right after that.
func (p *patient) leaving() map[int64]bool {
	leases := make(map[int64]bool)
	for _, s := range p.examined() {
		for _, i := range s.Instances {
			if i.Leaving() {
				leases[i.Entry.Lease] = true
			}
		}
	}
	return leases
}

// replaced returns the leases of the entries in whose place a newer entry of the same layout and address stands, as it does
// when a server is restarted under another id.
func (p *patient) replaced() map[int64]bool {
	leases := make(map[int64]bool)
	for _, s := range p.examined() {
		newest := make(map[place]survey.Entry)
		for _, i := range s.Instances {
			if at := placeOf(&i); i.Entry.Lease != 0 && !i.Leaving() && i.Entry.CreateRevision > newest[at].CreateRevision {
				newest[at] = i.Entry
			}
		}
		for _, i := range s.Instances {
			if n := newest[placeOf(&i)]; i.Entry.Lease != 0 && n.Lease != i.Entry.Lease && n.CreateRevision > i.Entry.CreateRevision {
				leases[i.Entry.Lease] = true
			}
		}
	}
	return leases
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
	for _, service := range p.examined() {
		service.Instances = slices.DeleteFunc(service.Instances, gone)
		service.Malformed = slices.DeleteFunc(service.Malformed, gone)
	}
	return failed
}
