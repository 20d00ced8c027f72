package descriptors

import "testing"

func TestLimit(t *testing.T) {
	for limit, want := range map[int]int{-1: 16, 0: 16, 63: 16, 68: 17, 512: 128, unlimited: 262144} {
		if got := OfOneService(limit); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
	if limit := Limit(); limit < 16 || limit > unlimited {
		t.Errorf("the limit is %d", limit)
	}
}
