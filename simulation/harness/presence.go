package harness

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// presence is what a server is to have in etcd, as its calls have said, and how that compares with what is there.
type presence struct {
	*process
	spec   schedule.Server
	suffix string // of its names, where a process has several

	// Under mu:
	id    string // of the life
	addr  string
	in    bool                 // it is meant to be in etcd
	wants map[string]acme.Said // by service: what its entries are to say
}

// instanceID returns the instance id that the server has been given.
func (s *presence) instanceID() string {
	return s.w.plan.Instance(s.index%s.w.plan.Processes()) + s.suffix
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

// want notes whether the server is meant to be in etcd.
func (s *presence) want(in bool) {
	s.mu.Lock()
	s.in = in
	s.mu.Unlock()
	s.w.record(func(h *check.History) {
		life := h.Life(s.id)
		life.Moves = append(life.Moves, check.Move{At: time.Now(), In: in})
	})
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

// marks reports whether the server's entries have room for metadata.
func (s *presence) marks() bool {
	return !slices.ContainsFunc(s.spec.Layouts, func(name string) bool {
		l, _ := schedule.LayoutNamed(name)
		return l.Bare
	})
}

// seen returns what the server is to have in etcd.
func (s *presence) seen() check.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := check.Server{ID: s.id, Addr: s.addr, In: s.in, Layouts: s.layouts(), Wants: maps.Clone(s.wants)}
	if s.spec.Named {
		seen.Name = s.instanceID()
	}
	return seen
}

// notIn describes what etcd lacks under services that the server is said to be in etcd for.
func (s *presence) notIn(keys ...string) string {
	var lacks []string
	for _, key := range keys {
		lacks = append(lacks, s.seen().Lacks(s.w.entries(), key))
	}
	return strings.Trim(strings.Join(lacks, "; "), "; ")
}

// stays describes what etcd has under a service that the server is said to be out of.
func (s *presence) stays(key string) string { return s.seen().Left(s.w.entries(), key) }

// notOut describes what etcd has though the server is said to be out of it.
func (s *presence) notOut() string {
	var left []string
	for _, key := range s.keys() {
		left = append(left, s.stays(key))
	}
	return strings.Trim(strings.Join(left, "; "), "; ")
}

// soon is how long a call that changes etcd takes at the most, if nothing is in its way and etcd is near.
const soon = time.Second
