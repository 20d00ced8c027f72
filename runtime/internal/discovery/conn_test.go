package discovery

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"
)

// slowConn takes its time for every state, as on a machine whose processors are busy with something else.
type slowConn struct {
	resolver.ClientConn
	takes time.Duration
}

func (c slowConn) UpdateState(resolver.State) error {
	time.Sleep(c.takes)
	return nil
}

// TestWaitingIsNotCharged has updates take time, of which pacing hears no more than they can have cost.
func TestWaitingIsNotCharged(t *testing.T) {
	for _, tt := range []struct {
		name      string
		endpoints int
		takes     time.Duration
		want      time.Duration
	}{
		{"cheap", 3, 20 * time.Microsecond, 20 * time.Microsecond},
		{"a few endpoints", 3, time.Second, 56 * time.Microsecond},
		{"many endpoints", 1000, time.Second, 2050 * time.Microsecond},
		{"many endpoints, soon done", 1000, time.Millisecond, time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &Key{}
				k.state.Store(&State{Sequence: 1, Known: true, Endpoints: make([]resolver.Endpoint, tt.endpoints)})
				c := &conn{key: k, cc: slowConn{takes: tt.takes}, opts: Options{Ours: true}}
				c.deliver()
				if spent := time.Duration(k.spent.Load()); spent != tt.want {
					t.Errorf("an update of %d endpoints that takes %v is charged %v, want %v", tt.endpoints, tt.takes, spent, tt.want)
				}
			})
		})
	}
}
