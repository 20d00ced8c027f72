package discovery

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

const ms = time.Millisecond

// TestVirtualClock has updates run at the same time: they cost what so many processors can have worked for them, however
// long each of them took.
func TestVirtualClock(t *testing.T) {
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
				c := &virtualClock{processors: 2}
				var mu sync.Mutex
				var spent time.Duration
				var all sync.WaitGroup
				for _, takes := range tt.takes {
					all.Go(func() {
						stop := c.start()
						time.Sleep(takes)
						cost := stop()
						mu.Lock()
						defer mu.Unlock()
						spent += cost
					})
				}
				all.Wait()
				// Fractions of a nanosecond are lost.
				if spent > tt.want || spent < tt.want-time.Microsecond {
					t.Errorf("they cost %v, want %v", spent, tt.want)
				}
			})
		})
	}
}

// slowConn takes its time for every state.
type slowConn struct {
	resolver.ClientConn
	takes time.Duration
	told  []uint64 // the sequences of the states
}

func (c *slowConn) UpdateState(s resolver.State) error {
	c.told = append(c.told, attr.StateOf(s).Sequence)
	time.Sleep(c.takes)
	return nil
}

// TestWaitingIsHardlyCharged has a connection take updates, of which one waits for a processor.
func TestWaitingIsHardlyCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, cc := &Key{keys: &Keys{cpu: &virtualClock{processors: 2}}}, &slowConn{}
		c := &conn{key: k, cc: cc, opts: Options{Client: new(attr.Client), Given: new(Given), Default: serviceconfig.Wrapped{Top: serviceconfig.EtcdName}}}
		for i, tt := range []struct{ takes, charged time.Duration }{
			{time.Second, 0}, {ms, 0}, {ms, 0}, {ms, 0}, // a start
			{ms, ms}, {time.Second, 2 * ms}, {ms, ms},
		} {
			k.state.Store(&State{Sequence: uint64(i), Known: true})
			cc.takes = tt.takes
			c.running = true
			c.deliver()
			if charged := time.Duration(k.spent.Swap(0)); charged != tt.charged+unseen {
				t.Errorf("%d: an update that takes %v is charged %v, want %v", i, tt.takes, charged, tt.charged+unseen)
			}
		}
	})
}
