package registration

import (
	"context"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// busy sends other requests of the client all the time, until the test ends.
func busy(t *testing.T, client *clientv3.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			call, done := context.WithTimeout(ctx, 500*time.Millisecond)
			_, _ = client.Get(call, "unrelated") // fails at the black hole
			done()
			<-tick.C
		}
	})
	t.Cleanup(func() {
		cancel()
		asking.Wait()
	})
}

// A member becomes a black hole for clients with other traffic, so that the connection's keepalive
// does not notice. The other two members are healthy.
func TestOneMemberIsABlackHole(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMembers(3)})
	const processes, ttl = 3, 3 * time.Second
	var all []*runtime.Registration
	for i := range processes { // a stream of renewals each, at different members
		client := w.etcd.Client(t)
		busy(t, client)
		all = append(all, register(t, w.newRegistry(client, runtime.WithLeaseTTL(ttl)), service(i), addr(0)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	gone := w.etcd.Admin().Watch(ctx, "svc/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	<-gone
	calls := w.etcd.Calls()
	kit.Must(t, calls.Wait(kit.Bounded(t, soon), etcdtest.LeaseKeepAlive, "", 2*processes))
	var member *etcdtest.Member
	for _, call := range calls.All() {
		if call.Op == etcdtest.LeaseKeepAlive {
			member = w.etcd.Member(call.Member)
		}
	}
	member.Pause()
	calls.Reset()
	kit.Must(t, calls.Wait(kit.Bounded(t, 4*soon), etcdtest.LeaseKeepAlive, "", 8*processes)) // three a life
	member.Resume()
	for _, g := range all {
		w.state(g, runtime.StateRegistered)
	}
	w.put("svc/end", "x")
	w.delete("svc/end")
	n := 0
	for end := false; !end; {
		answer, ok := <-gone
		if !ok {
			t.Fatal("the watch has ended")
		}
		for _, event := range answer.Events {
			if end = string(event.Kv.Key) == "svc/end"; !end {
				n++
				t.Errorf("%s was gone", event.Kv.Key)
			}
		}
	}
}
