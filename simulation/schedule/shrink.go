package schedule

import "slices"

// Shrink returns the smallest schedule it finds that still fails: with the fewest steps, then without the properties of processes that
// nothing needs, then with the shortest faults. fails reports whether a schedule fails; Shrink stops when it has
// nothing left to leave out.
func Shrink(s Schedule, fails func(Schedule) bool) Schedule {
	s.Steps = fewer(s.Steps, func(steps []Step) bool {
		t := s
		t.Steps = steps
		return fails(t)
	})
	if s.Other != nil {
		other := *s.Other
		other.Steps = fewer(other.Steps, func(steps []Step) bool {
			t, smaller := s, other
			smaller.Steps = steps
			t.Other = &smaller
			return fails(t)
		})
		s.Other = &other
	}
	for _, simpler := range simplifications {
		if t := simpler(clone(s)); fails(t) {
			s = t
		}
	}
	return s
}

// fewer leaves out elements, by halves at first and one by one at last, as long as the rest still fails.
func fewer[E any](from []E, fails func([]E) bool) []E {
	for size := (len(from) + 1) / 2; size > 0; size /= 2 {
		for at := 0; at < len(from); {
			without := slices.Delete(slices.Clone(from), at, min(at+size, len(from)))
			if fails(without) {
				from = without
			} else {
				at += size
			}
		}
	}
	return from
}

// withoutOther leaves out the other region, and what needs it.
func withoutOther(s Schedule) Schedule {
	s.Other = nil
	s.Steps = slices.DeleteFunc(s.Steps, func(step Step) bool {
		return slices.ContainsFunc(regionKinds, func(k kind) bool { return k.kind == step.Kind })
	})
	return s
}

// simplifications are tried one after another, each on the result of the ones before.
var simplifications = []func(Schedule) Schedule{
	withoutOther,
	func(s Schedule) Schedule {
		s.Auth = s.Auth && needs(s, RightsRefused, CallerRefused, TokensExpire)
		return s
	},
	func(s Schedule) Schedule {
		if s.Members = 1; needs(s, MemberIsolated, QuorumLost, MemberLags, LeaderChanges, StalledFromMember) {
			s.Members = 3
		}
		return s
	},
	func(s Schedule) Schedule { s.Line = 0; return s },
	func(s Schedule) Schedule { s.TTL = 0; return s },
	plainServers(func(v *Server) { v.Unready = 0 }),
	plainServers(func(v *Server) { v.Second = false }),
	plainServers(func(v *Server) { v.Parts = false }),
	plainCallers(func(c *Caller) { c.Parts = false }),
	plainCallers(func(c *Caller) { c.Own = "" }),
	plainServers(func(v *Server) { v.Both = false }),
	plainServers(func(v *Server) { v.Newer = false }),
	plainServers(func(v *Server) { v.Layouts = nil }),
	plainServers(func(v *Server) { v.Version, v.Zone, v.Weight = "", "", 0 }),
	plainCallers(func(c *Caller) { c.Subset, c.Zone = 0, "" }),
	plainCallers(func(c *Caller) { c.Policy = "" }),
	func(s Schedule) Schedule {
		if !needs(s, CallerAlone, DiskFails, DiskDamaged) {
			s = plainCallers(func(c *Caller) { c.Snapshots = false })(s)
		}
		return s
	},
}

func plainServers(change func(*Server)) func(Schedule) Schedule {
	return func(s Schedule) Schedule {
		for i := range s.Servers {
			change(&s.Servers[i])
		}
		return s
	}
}

func plainCallers(change func(*Caller)) func(Schedule) Schedule {
	return func(s Schedule) Schedule {
		for i := range s.Callers {
			change(&s.Callers[i])
		}
		return s
	}
}

// needs reports whether a step of one of the kinds is left.
func needs(s Schedule, kinds ...Kind) bool {
	return slices.ContainsFunc(s.Steps, func(step Step) bool { return slices.Contains(kinds, step.Kind) })
}

func clone(s Schedule) Schedule {
	s.Servers, s.Callers, s.Writers = slices.Clone(s.Servers), slices.Clone(s.Callers), slices.Clone(s.Writers)
	s.Steps = slices.Clone(s.Steps)
	return s
}
