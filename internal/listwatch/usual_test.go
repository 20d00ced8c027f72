package listwatch

import (
	"testing"
	"time"
)

func TestUsual(t *testing.T) {
	var u Usual
	for i, tt := range []struct{ cost, believed time.Duration }{
		{20, 0}, {1, 0}, {30, 0}, {2, 0}, // a start: everybody waits for the processors
		{2, 2}, {900, 4}, {2, 2}, {900, 4}, // most tell what is usual
		{9, 4}, {9, 4}, {9, 9}, {9, 9}, {50, 18}, // the first are forgotten
	} {
		if got := u.Believe(tt.cost); got != tt.believed {
			t.Errorf("%d: of %v, %v is believed, want %v", i, tt.cost, got, tt.believed)
		}
	}
}
