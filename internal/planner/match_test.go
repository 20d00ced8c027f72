package planner

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// An endpoint belongs to the first group that it matches, in whichever order
// the matcher finds the matches.
func TestGroup_IsTheFirst(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	value := func() string { return fmt.Sprint(rng.IntN(3)) }
	for range 2000 {
		splits := make([]serviceconfig.Split, rng.IntN(20))
		for i := range splits {
			splits[i].Match = map[string]string{}
			for range 1 + rng.IntN(3) {
				splits[i].Match[fmt.Sprint(rng.IntN(4))] = value()
			}
		}

		c := NewConfig(&serviceconfig.Etcd{Split: splits})

		has := func(e *endpoint.Endpoint, match map[string]string) bool {
			for name, value := range match {
				if e.Field(name) != value {
					return false
				}
			}

			return true
		}
		for range 10 {
			e := &endpoint.Endpoint{
				Metadata: map[string]string{"0": value(), "1": value(), "2": value(), "3": value()},
			}
			want := 0
			for want < len(splits) && !has(e, splits[want].Match) {
				want++
			}

			if got := c.Group(e); got != want {
				t.Fatalf("%v is in group %d of %v, want %d", e.Metadata, got, splits, want)
			}
		}
	}
}

// TestMatcher_ComparesOneMatch checks that a search compares one match instead
// of all, in a split with as many groups as allowed (S7).
func TestMatcher_ComparesOneMatch(t *testing.T) {
	matches := make([]map[string]string, 256)
	for i := range matches {
		matches[i] = map[string]string{"version": "v1", "zone": "x", "build": fmt.Sprint(i)}
	}

	m := newMatcher(matches)
	if len(m.files) != len(matches) {
		t.Errorf("%d matches are filed under %d fields, want one field for each", len(matches),
			len(m.files))
	}
}
