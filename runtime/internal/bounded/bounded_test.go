package bounded

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRun(t *testing.T) {
	for _, tt := range []struct{ takes, bound, want time.Duration }{
		{time.Second, time.Minute, time.Second},
		{time.Minute, time.Second, time.Second + grace},
		{grace / 2, 0, grace / 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), tt.bound)
			defer cancel()

			done := Run(ctx, func() { time.Sleep(tt.takes) })
			got := time.Since(begun)

			if returns := tt.want == tt.takes; got != tt.want || done != returns {
				t.Errorf("Run of %v with a context of %v returned %v after %v, want %v after %v",
					tt.takes, tt.bound, done, got, returns, tt.want)
			}

			time.Sleep(tt.takes) // until f returns, if it has not
		})
	}
}
