package listwatch

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// quiet follows ranges of an etcd without changes, and counts the repeated lists.
func quiet(t *testing.T, ranges int, then func(f *fakeEtcd, relisted *atomic.Int64)) {
	synctest.Test(t, func(t *testing.T) {
		f, relisted := &fakeEtcd{}, new(atomic.Int64)
		f.answering(list(100), nil)
		g := newGroup(f, &hooks{}, &bytes.Buffer{})
		g.cfg.Hooks.Relisted = func(string) { relisted.Add(1) }
		g.cfg.Streams.connected = true
		defer g.Close()
		for i := range ranges {
			spec := testSpec()
			spec.Range = Prefix(fmt.Sprintf("k%d/", i))
			g.Follow(spec, func(Update[string]) {})
		}
		then(f, relisted)
	})
}

// TestRequestsAtRest checks that etcd receives at most 60 requests a minute while nothing changes (D14), and that each range is probed.
func TestRequestsAtRest(t *testing.T) {
	for _, tt := range []struct{ ranges, least, most int }{
		{4, 476, 484}, // in an hour, each every 30 s; the hour may begin with a probe
		{200, 2800, 2900},
	} {
		quiet(t, tt.ranges, func(f *fakeEtcd, relisted *atomic.Int64) {
			time.Sleep(10 * time.Minute)
			before := f.counts()
			time.Sleep(time.Hour)
			if asked := f.counts()[0] - before[0]; asked < tt.least || asked > tt.most || relisted.Load() > 0 {
				t.Errorf("%d ranges: %d requests in an hour, want %d to %d; %d lists", tt.ranges, asked, tt.least, tt.most, relisted.Load())
			}
		})
	}
}

// TestGroup_SharesDoubt checks that all of many ranges react to a hanging etcd soon after the first, however rarely each is probed.
func TestGroup_SharesDoubt(t *testing.T) {
	const ranges = 200
	quiet(t, ranges, func(f *fakeEtcd, relisted *atomic.Int64) {
		time.Sleep(10 * time.Minute)
		f.hanging()
		for relisted.Load() == 0 {
			time.Sleep(time.Second)
		}
		time.Sleep(probeSoon + maxListTimeout)
		if n := relisted.Load(); n < ranges {
			t.Errorf("%d of %d ranges are listed again soon after the first", n, ranges)
		}
	})
}
