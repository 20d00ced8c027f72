package listwatch

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// quietEtcd is an etcd in which nothing changes.
type quietEtcd struct {
	mu    sync.Mutex
	asked int  // requests since take
	hangs bool // no read is answered
}

// take returns how many requests there were since it was last called.
func (e *quietEtcd) take() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := e.asked
	e.asked = 0
	return asked
}

func (e *quietEtcd) hang() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hangs = true
}

func (e *quietEtcd) Get(ctx context.Context, _ string, _ ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	e.mu.Lock()
	e.asked++
	hangs := e.hangs
	e.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return list(100), nil
}

func (e *quietEtcd) Watch(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	return make(chan clientv3.WatchResponse)
}

// quiet follows ranges of a quiet etcd, and counts those that are listed again.
func quiet(t *testing.T, ranges int, then func(e *quietEtcd, relisted *atomic.Int64)) {
	synctest.Test(t, func(t *testing.T) {
		e, relisted := &quietEtcd{}, new(atomic.Int64)
		g := newGroup(nil, &hooks{}, &bytes.Buffer{})
		g.cfg.Hooks.Relisted = func(string) { relisted.Add(1) }
		g.cfg.Client, g.cfg.Streams = e, NewStreams()
		g.cfg.Streams.connected = true
		defer g.Close()
		for i := range ranges {
			spec := testSpec()
			spec.Range = Prefix(fmt.Sprintf("k%d/", i))
			g.Follow(spec, func(Update[string]) {})
		}
		then(e, relisted)
	})
}

// TestRequestsAtRest counts what etcd receives while nothing changes (D14): at most 60 requests a minute, and each range is
// probed.
func TestRequestsAtRest(t *testing.T) {
	for _, tt := range []struct{ ranges, least, most int }{
		{4, 480, 480}, // in an hour, each every 30 s
		{200, 2800, 2900},
	} {
		quiet(t, tt.ranges, func(e *quietEtcd, relisted *atomic.Int64) {
			time.Sleep(10 * time.Minute)
			e.take()
			time.Sleep(time.Hour)
			if asked := e.take(); asked < tt.least || asked > tt.most || relisted.Load() > 0 {
				t.Errorf("%d ranges: %d requests in an hour, want %d to %d; %d lists", tt.ranges, asked, tt.least, tt.most, relisted.Load())
			}
		})
	}
}

// TestTroubleIsShared has etcd hang. However rarely each of many ranges is probed, all of them find out soon after the first.
func TestTroubleIsShared(t *testing.T) {
	const ranges = 200
	quiet(t, ranges, func(e *quietEtcd, relisted *atomic.Int64) {
		time.Sleep(10 * time.Minute)
		e.hang()
		time.Sleep(20 * time.Second)
		if n := relisted.Load(); n < ranges {
			t.Errorf("after 20 s, %d of %d ranges are listed again", n, ranges)
		}
	})
}
