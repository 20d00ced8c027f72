package schedule

import (
	"fmt"
	"slices"
)

// clash reports whether two steps hold the same thing at the same time.
func clash(s Schedule, a, b Step) bool {
	if a.At+a.For < b.At || b.At+b.For < a.At {
		return false
	}
	held := find(b.Kind).holds(s, b)
	return slices.ContainsFunc(find(a.Kind).holds(s, a), func(thing string) bool { return slices.Contains(held, thing) })
}

// A holder returns the things that a step holds while it lasts.
type holder func(Schedule, Step) []string

func nothing(Schedule, Step) []string { return nil }

func whole(what string) holder {
	return func(Schedule, Step) []string { return []string{what} }
}

// members holds the members that the step touches: all of them when the quorum is lost.
func members(_ Schedule, s Step) []string {
	if s.Kind == QuorumLost {
		return []string{"member 0", "member 1", "member 2"}
	}
	return []string{fmt.Sprintf("member %d", s.Who)}
}

func onProcess(what ...string) holder {
	return func(_ Schedule, s Step) (held []string) {
		for _, thing := range what {
			held = append(held, fmt.Sprintf("%s of %d", thing, s.Who))
		}
		return held
	}
}

func onPair(_ Schedule, s Step) []string {
	return []string{fmt.Sprintf("link of %d and %d", s.Who, s.Whom)}
}
