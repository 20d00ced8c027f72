package check

import (
	"slices"
	"time"
)

// Entry is what etcd has under a key.
type Entry struct {
	Service string   // the key of the service that it belongs to
	Addr    string   // the address that it names, "" if readers are to skip it or there is none
	Leaving bool     // it says that its owner takes it out
	Names   []string // the instance ids that it may give the address
	Tells   bool     // it says which methods are served there
}

// history is what etcd has had.
type history struct {
	entries map[string]Entry    // by key
	tells   map[place]time.Time // since when an entry has said which methods are served; none does where this is zero
	places  map[place]*spans
	named   map[[2]string]bool // by name and address: an entry has said so

	revision int64 // of the last change
	changes  int   // counts the revisions
}

// A place is an address of a service.
type place struct{ service, addr string }

// spans are the times at which entries of a place came, or took another name, and at which they went, in order.
type spans struct {
	came, went []time.Time
	left       []time.Time // those of went when an entry said that it leaves
	gone       int         // the change by which an entry last went
}

func newHistory() history {
	return history{entries: make(map[string]Entry), tells: make(map[place]time.Time), places: make(map[place]*spans), named: make(map[[2]string]bool)}
}

// Entry notes what etcd has under a key from now on, that is from a revision on, or from a restore on (0).
func (j *Judge) Entry(now time.Time, revision int64, key string, e Entry) {
	if j.history.changes == 0 || revision != j.history.revision {
		j.history.revision = revision
		j.history.changes++
	}
	h, before := &j.history, j.history.entries[key]
	defer h.noteTells(now, before)
	defer h.noteTells(now, e)
	if before.Addr == e.Addr && slices.Equal(before.Names, e.Names) {
		if e.Addr != "" {
			h.entries[key] = e
		}
		return
	}
	if before.Addr != "" {
		s := h.at(place{before.Service, before.Addr})
		s.went, s.gone = append(s.went, now), h.changes
		if e.Leaving {
			s.left = append(s.left, now)
		}
	}
	if delete(h.entries, key); e.Addr == "" {
		return
	}
	h.entries[key] = e
	s := h.at(place{e.Service, e.Addr})
	s.came = append(s.came, now)
	h.named[[2]string{e.Addr, e.Addr}] = true
	for _, name := range e.Names {
		h.named[[2]string{name, e.Addr}] = true
	}
}

// noteTells notes whether an entry says from now on which methods are served at the address of one that has changed.
func (h *history) noteTells(now time.Time, changed Entry) {
	p := place{changed.Service, changed.Addr}
	for _, e := range h.entries {
		if e.Tells && p == (place{e.Service, e.Addr}) {
			if h.tells[p].IsZero() {
				h.tells[p] = now
			}
			return
		}
	}
	delete(h.tells, p)
}

func (h *history) at(p place) *spans {
	if h.places[p] == nil {
		h.places[p] = new(spans)
	}
	return h.places[p]
}

// addrs returns the addresses that etcd has ever had for a service, sorted.
func (h *history) addrs(service string) []string {
	var addrs []string
	for p := range h.places {
		if p.service == service {
			addrs = append(addrs, p.addr)
		}
	}
	slices.Sort(addrs)
	return addrs
}

// standsFor reports whether a name stands for an address of a service, and for no other.
func (h *history) standsFor(name string, p place) bool {
	found := false
	for _, e := range h.entries {
		if e.Service == p.service && (name == e.Addr || slices.Contains(e.Names, name)) {
			if e.Addr != p.addr {
				return false
			}
			found = true
		}
	}
	return found
}

// lastAt returns the last of the times that is not after a time, zero if there is none.
func lastAt(times []time.Time, t time.Time) time.Time {
	for _, last := range slices.Backward(times) {
		if !last.After(t) {
			return last
		}
	}
	return time.Time{}
}

// WentSince reports whether an entry of an address of a service has gone at a time or later.
func (j *Judge) WentSince(t time.Time, service, addr string) bool {
	return slices.ContainsFunc(j.history.at(place{service, addr}).went, func(went time.Time) bool { return !went.Before(t) })
}

// present reports whether etcd certainly had an entry of the place at a time.
func (s *spans) present(t time.Time) bool {
	came := lastAt(s.came, t)
	return !came.IsZero() && !came.Before(lastAt(s.went, t))
}
