package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// presence is what a server is to have in etcd, as its calls have said, and how that compares with what is there.
type presence struct {
	*process
	spec    schedule.Server
	readers *readers
	suffix  string // of its names, where a process has several

	// Under mu:
	id    string // of the life
	addr  string
	in    bool                 // it is meant to be in etcd
	out   []string             // the services that the call that was to put it there has failed for, and is yet to be made again
	since time.Time            // of in
	back  bool                 // it is out and will come back: while etcd is full its entries stay, since etcd could not take them again
	flaps bool                 // its health turned NOT_SERVING soon after it had turned SERVING
	wants map[string]acme.Said // by service: what its entries are to say
	left  time.Time            // when a call last said that it was out of etcd
}

// instanceID returns the instance id that the server has been given.
func (s *presence) instanceID() string {
	return s.w.Plan.Instance(s.index%s.w.Plan.Processes()) + s.suffix
}

// known returns the life's id and address, for those who do not hold the turn.
func (s *presence) known() (id, addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id, s.addr
}

// keys returns the services that the server is to be found under.
func (s *presence) keys() []string {
	if s.spec.Both {
		return []string{acme.ShopKey, acme.UserKey}
	}
	return []string{acme.ShopKey}
}

// appear notes that another life begins, which listens at an address and is to be in etcd once it is up.
func (s *presence) appear(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = nil
	s.addr, s.id = addr, fmt.Sprintf("%s%s, life %d", s.name(), s.suffix, s.life)
	s.wants = make(map[string]acme.Said)
	for _, key := range s.keys() {
		s.wants[key] = s.says(key)
	}
}

// says returns what the entries of a service are to say of the server.
func (s *presence) says(key string) acme.Said {
	want := acme.Said{Addr: s.addr, Version: s.spec.Version, Zone: s.spec.Zone, Weight: max(1, s.spec.Weight)}
	switch {
	case s.spec.Mode == schedule.Register: // a registration by hand knows no methods
	case key == acme.UserKey:
		want.Methods = strings.TrimPrefix(acme.UserWho, "/")
	case s.spec.Newer:
		want.Methods = strings.TrimPrefix(acme.Lead, "/") + ",Who,WhoNewer"
	default:
		want.Methods = strings.TrimPrefix(acme.Lead, "/") + ",Who"
	}
	return want
}

// want notes whether the server is meant to be in etcd and, if not, whether it is to come back.
func (s *presence) want(in, back bool) {
	s.mu.Lock()
	s.in, s.since, s.back, s.flaps = in, time.Now(), back, false
	s.mu.Unlock()
	s.w.Observe(func(j *check.Judge) { j.Leave(time.Now(), s.id, !in) })
}

// whole reports whether the server is meant to be in etcd with all that it serves. It must be called with mu held.
func (s *presence) whole() bool { return s.in && len(s.out) == 0 }

// failed notes for which services, if any, the call that is to put a life in etcd has failed.
func (s *presence) failed(id string, keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == id {
		s.out = keys
	}
}

// expect notes what an entry is to say from now on, and reports whether that is something else.
func (s *presence) expect(key string, change func(*acme.Said)) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, want := s.wants[key], s.wants[key]
	change(&want)
	s.wants[key] = want
	return want != was
}

// layouts returns the layouts of the server's entries.
func (s *presence) layouts() []string {
	if len(s.spec.Layouts) == 0 {
		return []string{schedule.EndpointJSON}
	}
	return s.spec.Layouts
}

// etcdKeys returns the keys that the server's entries of a service may have, given its leases.
func (s *presence) etcdKeys(key string, leases []int64) []string {
	_, addr := s.known()
	var keys []string
	for _, layout := range s.layouts() {
		l, _ := schedule.LayoutNamed(layout)
		switch {
		case l.Leased:
			for _, id := range leases {
				keys = append(keys, fmt.Sprintf("%s/%d", key, id))
			}
		case s.spec.Named:
			keys = append(keys, key+"/"+s.instanceID())
		case l.End != nil:
			keys = append(keys, key+"/"+l.End(addr))
		default:
			keys = append(keys, key+"/"+addr)
		}
	}
	return keys
}

// lacks describes the entries of a service that etcd lacks of the server: those that say what they are to say.
func (s *presence) lacks(key string) string {
	s.mu.Lock()
	want := s.wants[key]
	s.mu.Unlock()
	entries := s.found(key)
	var lacks []string
	for _, layout := range s.layouts() {
		in := want.In(layout)
		if !slices.ContainsFunc(entries, func(e etcd.Entry) bool { return e.Lease != acme.NoLease && s.w.entries.Decode(layout, e.Value) == in }) {
			lacks = append(lacks, fmt.Sprintf("no entry of %s in %s says %+v", key, layout, in))
		}
	}
	return strings.Join(lacks, "; ")
}

// found returns the entries of a service that name the server's address.
func (s *presence) found(key string) []etcd.Entry {
	_, addr := s.known()
	return slices.DeleteFunc(s.w.Etcd.Entries(key+"/"), func(e etcd.Entry) bool { return s.w.entries.AddrIn(e.Value) != addr })
}

// saidIn checks that the server is in etcd under keys, as a call that began at a time has said. Changes that others have made
// since excuse it.
func (s *presence) saidIn(what string, began time.Time, keys ...string) {
	for _, key := range keys {
		if s.touched(key, began) {
			continue
		}
		if lacks := s.lacks(key); lacks != "" {
			id, _ := s.known()
			s.w.Report(check.SaidIn, "%s of %s returned nil, and %s: etcd has %v", what, id, lacks, s.found(key))
		}
	}
}

// saidOut checks that the server is out of etcd, as a call that began at a time has said. A server that is cut off cannot know
// what a restore has brought back meanwhile, nor one that has left etcd and takes a connection for well that is a black hole.
func (s *presence) saidOut(what string, began time.Time) {
	s.mu.Lock()
	last := s.left
	s.left = time.Now()
	s.mu.Unlock()
	unaware := began
	if deaf := s.w.DeafSince(s.from); !deaf.IsZero() && deaf.Before(began) {
		unaware = deaf
	}
	if s.w.ResetSince(unaware) || s.w.ResetHidden(s.index) {
		return
	}
	for _, key := range s.keys() {
		// A restored etcd may have brought back what a life before this one had, or a registration before the last call.
		found := slices.DeleteFunc(s.found(key), func(e etcd.Entry) bool { return !s.w.HasPutSince(last, s.from, e.Key, e.Lease) })
		if len(found) > 0 {
			s.w.Report(check.SaidOut, "%s of %s returned nil, and etcd has %v", what, s.id, found)
		}
	}
	if addr, left := s.addr, time.Now(); s.marks() && !s.hindered(began) {
		s.readers.soon(s.id+" has left", func(k runtime.KeyStatus) bool {
			return !slices.Contains(acme.Addrs(k.Endpoints), addr) || s.w.RegisteredSince(left, addr)
		})
	}
}

// hindered reports whether etcd may have refused a mark that the server has put since a time, and does not have it. The server
// then leaves without one, and callers may hold it.
func (s *presence) hindered(since time.Time) bool {
	keys := s.etcdKeys(acme.ShopKey, s.w.Leases(s.from))
	own := slices.DeleteFunc(slices.Clone(s.w.Since(since)), func(c etcd.Change) bool {
		return c.Client != s.from || !slices.Contains(keys, c.Key)
	})
	switch {
	case len(own) == 0:
		return true // its entry was gone already
	case slices.ContainsFunc(own, func(c etcd.Change) bool { return strings.Contains(c.Value, acme.LeavingMark) }):
		return false
	}
	at := since.Sub(s.w.Began)
	return s.w.Full(at) || s.w.BarredSince(s.index, at) // etcd puts nothing on a lease that has a key which the server may not write
}

// marks reports whether the server's entries have room for a mark that it leaves.
func (s *presence) marks() bool {
	return !slices.ContainsFunc(s.spec.Layouts, func(name string) bool {
		l, _ := schedule.LayoutNamed(name)
		return l.Bare
	})
}

// touched reports whether anything but the server itself has changed entries of a service since a time.
func (s *presence) touched(key string, since time.Time) bool {
	return s.w.ResetSince(since) || slices.ContainsFunc(s.w.Since(since), func(c etcd.Change) bool {
		return c.Client != s.from && strings.HasPrefix(c.Key, key+"/")
	})
}

// leftNothing checks that etcd has nothing of the server under keys, as a call that has failed is to see to. What hampers the
// server excuses it for a while: see lookAt.
func (s *presence) leftNothing(what, from string, began time.Time, keys ...string) {
	if s.hamperedSince(began) {
		return
	}
	for _, key := range keys {
		if own := s.own(from, key); len(own) > 0 {
			id, _ := s.known()
			s.w.Report(check.SaidOut, "%s of %s has failed, and etcd has %v", what, id, own)
		}
	}
}

// soon is how long a call that changes etcd takes at the most, if nothing is in its way and etcd is near.
const soon = time.Second

// trips is how many times such a call may go to etcd and back.
const trips = 8

// ended judges a call that changes what etcd has of the server, and has returned an error or nil: it succeeds soon, unless its
// context ends before, or others have their hands in it.
func (s *presence) ended(ctx context.Context, what string, began time.Time, err error, most time.Duration) {
	most += trips * 2 * s.w.line()
	took := time.Since(began)
	if err == nil && took <= most || ctx.Err() != nil && took < most || s.hamperedSince(began) {
		return
	}
	if err != nil && strings.Contains(err.Error(), acme.Leaders) && s.w.BarredSince(s.index, began.Sub(s.w.Began)) {
		return
	}
	for _, key := range s.keys() {
		if s.touched(key, began.Add(-keptWithin)) || s.taken(s.from, key) {
			return
		}
	}
	s.w.Report(check.Answers, "%s of %s took %v, with nothing in its way: %v", what, s.id, took, err)
}

// justPut reports whether the server has put an entry of a service since a time, which others may have changed already.
func (s *presence) justPut(from, key string, since time.Time) bool {
	return slices.ContainsFunc(s.w.Since(since), func(c etcd.Change) bool {
		return c.Client == from && !c.Delete && strings.HasPrefix(c.Key, key+"/")
	})
}

// own returns the entries of a service that hang on a lease of the life that dials from a host, by their keys or their address.
func (s *presence) own(from, key string) []etcd.Entry {
	_, addr := s.known()
	leases := s.w.LeasesLeft(from)
	keys := s.etcdKeys(key, leases)
	return slices.DeleteFunc(s.w.Etcd.Entries(key+"/"), func(e etcd.Entry) bool {
		return !slices.Contains(leases, e.Lease) || !slices.Contains(keys, e.Key) && s.w.entries.AddrIn(e.Value) != addr
	})
}

// stands returns the candidates that hang on a lease of the life that dials from a host. Their values are the instance ids.
func (s *presence) stands(from string) []etcd.Entry {
	_, id := s.known()
	leases := s.w.LeasesLeft(from)
	if s.spec.Named {
		id = s.instanceID()
	}
	return slices.DeleteFunc(s.w.Etcd.Entries(acme.Candidates), func(e etcd.Entry) bool {
		return !slices.Contains(leases, e.Lease) || e.Value != id
	})
}

// taken reports whether somebody else holds a key of the life that dials from a host.
func (s *presence) taken(from, key string) bool {
	leases := s.w.LeasesLeft(from)
	return slices.ContainsFunc(s.etcdKeys(key, leases), func(key string) bool {
		e, ok := s.w.Etcd.Get(key)
		return ok && !slices.Contains(leases, e.Lease)
	})
}

// untouched reports whether etcd has the entries of the shop of the life that dials from a host, and nobody else has changed
// them since a time.
func (s *presence) untouched(from string, since time.Time) bool {
	keys := s.etcdKeys(acme.ShopKey, s.w.LeasesLeft(from))
	return s.lacks(acme.ShopKey) == "" && !slices.ContainsFunc(s.w.Since(since), func(c etcd.Change) bool {
		return c.Client != from && slices.Contains(keys, c.Key)
	})
}
