package serviceconfig

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Different matches have different keys, even if they print alike.
func TestP9_SplitsAreToldApart(t *testing.T) {
	keys := map[string]int{}
	for i, match := range []map[string]string{
		{"a": "b c:d"}, {"a": "b", "c": "d"}, {"a": `b" "c":"d`}, {"a": `b"="c`}, {"a": "", "b": ""}, {"a": `";"b"="`}, {"a": "b"}, {"a b": ""},
	} {
		key := Split{Match: match, Weight: uint32(i)}.Key()
		if other, taken := keys[key]; taken {
			t.Errorf("the splits %d and %d have the key %s", other, i, key)
		}
		keys[key] = i
	}
	a, b := Split{Match: map[string]string{"a": "1", "b": "2"}, Weight: 1}, Split{Match: map[string]string{"b": "2", "a": "1"}, Weight: 2}
	if a.Key() != b.Key() {
		t.Errorf("%s and %s are one group with two weights", a.Key(), b.Key())
	}
}

// The matcher finds the same split as a search in order.
func TestMatcherIsInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	value := func() string { return fmt.Sprint(rng.IntN(3)) }
	for range 2000 {
		splits := make([]Split, rng.IntN(20))
		for i := range splits {
			splits[i].Match = map[string]string{}
			for range 1 + rng.IntN(3) {
				splits[i].Match[fmt.Sprint(rng.IntN(4))] = value()
			}
		}
		m := NewMatcher(splits)
		for range 10 {
			has := map[string]string{"0": value(), "1": value(), "2": value(), "3": value()}
			get := func(name string) string { return has[name] }
			want := -1
			for i := len(splits) - 1; i >= 0; i-- {
				if splits[i].matches(get) {
					want = i
				}
			}
			if got := m.Match(get); got != want {
				t.Fatalf("%v matches %d of %v, want %d", has, got, splits, want)
			}
		}
	}
}

// TestS7_MatchingIsNoLoopInALoop counts the look-ups for an endpoint if a split has the most groups: one for each name, not
// for each group.
func TestS7_MatchingIsNoLoopInALoop(t *testing.T) {
	splits := make([]Split, 256)
	for i := range splits {
		splits[i].Match = map[string]string{"version": "v1", "instance": fmt.Sprint(i)}
	}
	m := NewMatcher(splits)
	gets := 0
	get := func(name string) string {
		gets++
		return map[string]string{"version": "v1", "instance": "255"}[name]
	}
	if got := m.Match(get); got != 255 {
		t.Errorf("matched %d, want 255", got)
	}
	if gets > 4 {
		t.Errorf("an endpoint was looked at %d times", gets)
	}
}
