package scenarios

import (
	"slices"
	"testing"
)

func TestTurnOrder(t *testing.T) {
	for _, tt := range []struct {
		n, turns, first int
		want            []int
	}{
		{3, 2, 0, []int{0, 1, 2, 1, 2, 0}},
		{3, 2, 2, []int{2, 0, 1, 0, 1, 2}},
		{2, 3, 5, []int{1, 0, 0, 1, 1, 0}},
		{1, 2, 4, []int{0, 0}},
	} {
		if got := turnOrder(tt.n, tt.turns, tt.first); !slices.Equal(got, tt.want) {
			t.Errorf("%d turns of %d, %d first: %v, want %v", tt.turns, tt.n, tt.first, got, tt.want)
		}
	}
}

// TestTurnsAreEvenlySpread has each of four begin a round, and follow each other one, as often as the others.
func TestTurnsAreEvenlySpread(t *testing.T) {
	const n, turns = 4, 8
	order := turnOrder(n, turns, 1)
	had, began := make([]int, n), make([]int, n)
	for i, who := range order {
		had[who]++
		if i%n == 0 {
			began[who]++
		}
	}
	for who := range n {
		if had[who] != turns || began[who] != turns/n {
			t.Errorf("%d had %d turns and began %d times, want %d and %d", who, had[who], began[who], turns, turns/n)
		}
	}
}

func TestOnlyGoZeroHasAProgramOfItsOwn(t *testing.T) {
	for _, s := range All() {
		for _, peer := range s.Peers {
			if got, want := sameProgram(peer, peerOurs), peer != peerGoZero; got != want {
				t.Errorf("%s: %s is in this project's program: %v, want %v", s.Name, peer, got, want)
			}
		}
		if got, want := s.NeedsGoZero(), slices.Contains(s.Peers, "go-zero"); got != want {
			t.Errorf("%s needs go-zero: %v, want %v", s.Name, got, want)
		}
	}
}
