package world

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

const (
	// sampling is how often it is looked whether etcd has what servers want there, and what they say of it.
	sampling = 250 * time.Millisecond
	// keptWithin is how soon a server that can reach etcd puts right what is wrong there.
	keptWithin = 3 * time.Second
)

// lasting keeps since when things have been wrong, by what is wrong and where.
type lasting map[string]time.Time

// tooLong reports whether something has been wrong for longer than a server needs to put it right. It reports that once.
func (l lasting) tooLong(what string, wrong bool) bool { return l.longer(keptWithin, what, wrong) }

// longer reports whether something has been wrong for longer than a time. It reports that once.
func (l lasting) longer(than time.Duration, what string, wrong bool) bool {
	since, ok := l[what]
	switch {
	case !wrong:
		delete(l, what)
	case !ok:
		l[what] = time.Now()
	case !since.IsZero() && time.Since(since) > than+sampling:
		l[what] = time.Time{}
		return true
	}
	return false
}

// forget forgets all that has been wrong.
func (l lasting) forget() { clear(l) }

// sample looks again and again at what every server has in etcd, and at what callers say of it.
func (w *World) sample(ctx context.Context) {
	servers, callers := make([]watched, len(w.servers)), make([]lasting, len(w.callers))
	for i := range servers {
		servers[i] = watched{wrong: make(lasting), lost: make(lasting)}
	}
	for i := range callers {
		callers[i] = make(lasting)
	}
	leaders := make(lasting)
	tick := time.NewTicker(sampling)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i, s := range w.servers {
			s.look(&servers[i])
		}
		for i, c := range w.callers {
			c.lookAtKey(callers[i])
		}
		w.lookAtLeaders()
		w.lookAtTerms()
		w.lookForLeader(leaders)
	}
}

// watched is what has been seen of a server so far.
type watched struct {
	was   string  // since when wrong counts: which life it is, what it wants, and whether its way to etcd is free
	wrong lasting // while that is so
	lost  lasting
}

// look looks at a server.
func (s *server) look(seen *watched) {
	now, hampered := s.sight(), s.w.hampered(s.index)
	if is := fmt.Sprint(now.id, now.in, now.wants, hampered); is != seen.was {
		seen.was = is
		seen.wrong.forget()
	}
	if now.registry == nil {
		return
	}
	if !hampered {
		s.lookAt(now, seen.wrong)
	}
	s.lookForLost(now, seen.lost)
}

// sight is what there is to see of a server.
type sight struct {
	id, from string
	in       bool
	flaps    bool
	wants    string
	registry *runtime.Registry // nil: the server is down
	stands   *stander
}

func (s *server) sight() sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sight{s.id, s.from, s.in, s.flaps, fmt.Sprint(s.wants), s.live, s.stands}
}

// lookAt judges what etcd has of a server whose way to etcd is free.
func (s *server) lookAt(now sight, wrong lasting) {
	full := s.w.etcd.Full()
	statuses := now.registry.Status().Registrations
	for _, key := range s.keys() {
		lacks, own := s.lacks(key), s.ownEntries(now.from, key)
		free := !full && !s.taken(now.from, key)
		if wrong.tooLong(key+" is lacking", now.in && lacks != "" && free && !s.justPut(now.from, key)) {
			s.w.report(check.Kept, "%s reaches etcd, and for %v %s", now.id, keptWithin, lacks)
		}
		if wrong.tooLong(key+" is left", !now.in && len(own) > 0) {
			s.w.report(check.Kept, "%s reaches etcd and has left %v ago, and etcd has %v", now.id, keptWithin, own)
		}
		i := slices.IndexFunc(statuses, func(status runtime.Status) bool { return status.Key == key })
		if i >= 0 && now.in {
			s.lookAtStatus(now, statuses[i], wrong, len(own) < len(s.layouts()), lacks == "", full)
		}
	}
	if s.elects() {
		s.lookAtCandidate(now, wrong, s.lacks(shopKey) != "", full)
	}
	left := s.w.leasesLeft(now.from)
	if now.in && len(left) > 0 {
		left = left[:len(left)-1] // in use
	}
	if wrong.tooLong("leases are left", len(left) > 0 && !full) {
		s.w.report(check.LeftBehind, "%s reaches etcd, and for %v has not revoked the leases %x", now.id, keptWithin, left)
	}
}

// lookAtStatus judges what a server says of an entry that it wants in etcd.
func (s *server) lookAtStatus(now sight, status runtime.Status, wrong lasting, absent, there, full bool) {
	registered := status.State == runtime.StateRegistered
	if wrong.tooLong(status.Key+" is said to be there", absent && registered) {
		s.w.report(check.Status, "%s says that %s is %v, and etcd has not had it for %v", now.id, status.Key, status.State, keptWithin)
	}
	if wrong.tooLong(status.Key+" is said not to be there", there && (!registered || status.Err != nil) && !full) {
		s.w.report(check.Status, "%s says that %s is %v: %v, and etcd has had it for %v", now.id, status.Key, status.State, status.Err, keptWithin)
	}
	refused := absent && full && time.Since(status.Since) > keptWithin // it was tried meanwhile
	if wrong.tooLong(status.Key+" is not said to be refused", refused && status.Err == nil) {
		s.w.report(check.Status, "%s says that %s is %v without an error, and etcd has refused it for %v", now.id, status.Key, status.State, keptWithin)
	}
}

// lookForLost judges whether a server, be it cut off from etcd, knows that it is not there because its lease has expired.
func (s *server) lookForLost(now sight, wrong lasting) {
	gone := len(s.w.leasesLeft(now.from)) == 0 && !s.w.hearsLate(s.index)
	for _, status := range now.registry.Status().Registrations {
		registered := gone && status.State == runtime.StateRegistered
		if wrong.longer(ttl+keptWithin, now.id+status.Key, registered) {
			s.w.report(check.Status, "%s says that %s is %v, and its lease has been gone for %v", now.id, status.Key, status.State, ttl+keptWithin)
		}
	}
}

// ownEntries returns the entries of a service that hang on a lease of the life that dials from a host.
func (s *server) ownEntries(from, key string) []etcd.Entry {
	leases := s.w.leasesLeft(from)
	return slices.DeleteFunc(s.w.etcd.Entries(key+"/"), func(e etcd.Entry) bool { return !slices.Contains(leases, e.Lease) })
}

// justPut reports whether the server has put an entry of a service since it was last looked at, which others may have changed
// already.
func (s *server) justPut(from, key string) bool {
	return slices.ContainsFunc(s.w.since(time.Now().Add(-sampling)), func(c etcd.Change) bool {
		return c.Client == from && !c.Delete && strings.HasPrefix(c.Key, key+"/")
	})
}

// taken reports whether somebody else holds a key of the life that dials from a host.
func (s *server) taken(from, key string) bool {
	leases := s.w.leasesLeft(from)
	return slices.ContainsFunc(s.etcdKeys(key, leases), func(key string) bool {
		e, ok := s.w.etcd.Get(key)
		return ok && !slices.Contains(leases, e.Lease)
	})
}
