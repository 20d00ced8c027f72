package schedule

import (
	"reflect"
	"slices"
)

// Shrink returns a small schedule that still fails. It drops steps, and then
// properties of processes. fails reports whether a schedule fails.
func Shrink(s Schedule, fails func(Schedule) bool) Schedule {
	s.Steps = fewer(s.Steps, func(steps []Step) bool {
		t := s
		t.Steps = steps

		return fails(t)
	})

	if s.Other != nil {
		other := *s.Other
		other.Steps = fewer(other.Steps, func(steps []Step) bool {
			t := s
			smaller := other
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

// fewer drops elements, first halves and finally single ones, as long as the
// rest still fails.
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

// simplifications holds changes that Shrink tries in order.
var simplifications = []func(Schedule) Schedule{
	func(s Schedule) Schedule { // without the other region, and the steps that need it
		s.Other = nil
		s.Steps = slices.DeleteFunc(s.Steps, func(step Step) bool {
			return slices.Contains([]Kind{HomeGoes, CutFromAway, StalledFromAway},
				step.Kind)
		})

		return s
	},
	func(s Schedule) Schedule { // without passwords, if no step needs them
		s.Auth = s.Auth && needs(s, RightsRefused, CallerRefused, TokensExpire)
		return s
	},
	func(s Schedule) Schedule { // with one member of etcd, if no step needs more
		if !needs(s, MemberIsolated, QuorumLost, MemberLags, LeaderChanges,
			StalledFromMember) {
			s.Members = 1
		}

		return s
	},
	func(s Schedule) Schedule {
		s.Line = 0
		return s
	},
	func(s Schedule) Schedule {
		s.TTL = 0
		return s
	},
	plain("Servers", "Unready"),
	plain("Servers", "Second"),
	plain("Servers", "Parts"),
	plain("Callers", "Parts"),
	plain("Callers", "Own"),
	plain("Servers", "Both"),
	plain("Servers", "Newer"),
	plain("Servers", "Layouts"),
	plain("Servers", "Version", "Zone", "Weight"),
	plain("Callers", "Subset", "Zone"),
	plain("Callers", "Policy"),
	func(s Schedule) Schedule {
		if needs(s, CallerAlone, DiskFails, DiskDamaged) {
			return s
		}

		return plain("Callers", "Snapshots")(s)
	},
}

// plain returns a change that clears some fields of all Servers, or of all
// Callers.
func plain(processes string, fields ...string) func(Schedule) Schedule {
	return func(s Schedule) Schedule {
		for _, process := range reflect.ValueOf(s).FieldByName(processes).Seq2() {
			for _, field := range fields {
				process.FieldByName(field).SetZero()
			}
		}

		return s
	}
}

// needs reports whether a step of one of the kinds remains.
func needs(s Schedule, kinds ...Kind) bool {
	return slices.ContainsFunc(s.Steps, func(step Step) bool {
		return slices.Contains(kinds, step.Kind)
	})
}

func clone(s Schedule) Schedule {
	s.Servers = slices.Clone(s.Servers)
	s.Callers = slices.Clone(s.Callers)
	s.Writers = slices.Clone(s.Writers)
	s.Steps = slices.Clone(s.Steps)

	return s
}
