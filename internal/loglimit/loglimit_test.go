package loglimit

import (
	"testing"
	"time"
)

func TestAllow(t *testing.T) {
	var l Limiter

	now := time.Unix(1e9, 0)
	for _, tt := range []struct {
		after       time.Duration
		lines, want int
		missed      int // the lines left out before the first allowed line
	}{
		{0, 10, 5, 0},
		{every - 1, 3, 0, 0},
		{1, 2, 1, 8},
		{every, 1, 1, 1},
		{3 * every, 5, 3, 0},
		{time.Hour, 100, 5, 2},
	} {
		now = now.Add(tt.after)
		got := 0
		first := -1
		for range tt.lines {
			ok, missed := l.Allow(now)
			if ok {
				got++

				if first < 0 {
					first = missed
				}
			}
		}

		if got != tt.want || got > 0 && first != tt.missed {
			t.Errorf("after %v: %d of %d lines are allowed, and missed is %d, want %d and %d",
				tt.after, got, tt.lines, first, tt.want, tt.missed)
		}
	}
}
