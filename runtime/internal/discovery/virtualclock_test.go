package discovery

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"
)

// slowConn takes its time for every state.
type slowConn struct {
	resolver.ClientConn
	takes time.Duration
}

func (c slowConn) UpdateState(resolver.State) error {
	time.Sleep(c.takes)
	return nil
}

// TestVirtualClock has connections take updates at the same time: they are charged what so many processors can have worked
// for them, however long each of them took.
func TestVirtualClock(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name  string
		takes []time.Duration
		want  time.Duration // two processors
	}{
		{"one", []time.Duration{ms}, ms},
		{"as many as processors", []time.Duration{ms, ms}, 2 * ms},
		{"more than processors", []time.Duration{4 * ms, 4 * ms, 4 * ms, 4 * ms}, 8 * ms},
		{"some take longer", []time.Duration{ms, ms, ms, ms, 3 * ms}, 2*ms + 2*ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &Key{keys: &Keys{cpu: &virtualClock{processors: 2}}}
				k.state.Store(&State{Sequence: 1, Known: true})
				var all sync.WaitGroup
				for _, takes := range tt.takes {
					c := &conn{key: k, cc: slowConn{takes: takes}, opts: Options{Ours: true}}
					all.Go(c.deliver)
				}
				all.Wait()
				// Fractions of a nanosecond are lost.
				if spent := time.Duration(k.spent.Load()); spent > tt.want || spent < tt.want-time.Microsecond {
					t.Errorf("they are charged %v, want %v", spent, tt.want)
				}
			})
		})
	}
}
