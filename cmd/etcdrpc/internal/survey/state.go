package survey

// State is what becomes of an entry.
type State string

// The states of well-formed entries, as far as they show without a look at the lease.
const (
	Registered State = "registered"
	Drained    State = "drained" // by the live config, as clients go by it
	Leaving    State = "leaving" // its owner is withdrawing it
)

// States is what becomes of the entries of a service.
type States struct {
	called  map[string]*Instance
	drained map[string]bool
}

// States looks at what clients make of the entries.
func (s *Service) States() States { return States{s.Merged().ByAddr(), s.Drained()} }

// Called returns what clients call at the address of an entry; nil: nothing.
func (t States) Called(i *Instance) *Instance { return t.called[i.Addr] }

// Of returns the state of an entry.
func (t States) Of(i *Instance) State {
	switch {
	case i.Leaving() || t.called[i.Addr] == nil:
		return Leaving
	case t.drained[i.Addr]:
		return Drained
	}
	return Registered
}
