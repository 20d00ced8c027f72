package descriptors

import (
	"os"
	"testing"
)

func TestLimit(t *testing.T) {
	for limit, want := range map[int]int{-1: 16, 0: 16, 63: 16, 68: 17, 512: 128, unlimited: 262144} {
		if got := OfOneService(limit); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if limit := Limit(); limit > unlimited || uintptr(limit) <= f.Fd() {
		t.Errorf("the limit is %d and descriptor %d is open", limit, f.Fd())
	}
}
