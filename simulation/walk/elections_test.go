package walk

import (
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
)

var elections = flag.Int("elections", 200, "how many elections TestE1_ManyElections holds")

// TestE1_ManyElections has the instances of a process stand, and leave, all at once and again and again. None leads with the
// token of another.
func TestE1_ManyElections(t *testing.T) {
	inDistance(t, time.Millisecond, func(t *testing.T, d *distant) {
		desc := &runtime.ServiceDesc{Name: "acme.Counter", Key: "counter", Leader: []string{"/acme.Counter/Add"}}
		var servers []*runtime.Server
		var leaders []*leader.Leadership
		for i := range 3 {
			server := d.NewServer(grpc.NewServer())
			server.Publish(desc, runtime.WithInstance(fmt.Sprint(i)))
			servers, leaders = append(servers, server), append(leaders, leader.Of(server, desc))
		}
		each := func(do func(i int) error) {
			var doing sync.WaitGroup
			for i := range servers {
				doing.Go(func() {
					if err := do(i); err != nil {
						t.Error(err)
					}
				})
			}
			doing.Wait()
		}
		seen := make(map[int64]bool)
		for len(seen) < *elections {
			each(func(i int) error { return servers[i].Announce(t.Context(), fmt.Sprintf("10.0.0.1:%d", 1+i)) })
			for left := len(servers); left > 0; left-- { // each in its turn
				i, token := leading(t, leaders)
				if seen[token] {
					t.Fatalf("instance %d leads with the token %d, which has been led with", i, token)
				}
				seen[token] = true
				if err := servers[i].Withdraw(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Logf("%d elections, each with a token of its own", len(seen))
	})
}

// leading returns who leads, and with which token, once one does.
func leading(t *testing.T, leaders []*leader.Leadership) (i int, token int64) {
	t.Helper()
	for range 1000 {
		for i, l := range leaders {
			if token, ok := l.Token(); ok {
				return i, token
			}
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("nobody leads within a second")
	return 0, 0
}
