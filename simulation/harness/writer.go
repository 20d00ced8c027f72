package harness

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// writer is a server that uses etcd without the runtime, as many servers do. It
// grants a lease, puts its entry, keeps the lease alive, and starts over some
// time after an error.
type writer struct {
	*process
	spec schedule.Writer

	id       string
	up       bool
	listener net.Listener
	grpc     *grpc.Server
	end      context.CancelFunc
	running  *sync.WaitGroup
}

// Times of the etcd code of writers.
const (
	// putTimeout bounds the grant and the put together.
	putTimeout = 3 * time.Second

	// startOver is the wait before a new start.
	startOver = time.Second
)

func (o *writer) addr() string {
	return fmt.Sprintf("%s:%d", o.host, schedule.Port)
}

func (o *writer) start() {
	o.do(func() {
		if o.up {
			return // another step has started the writer
		}

		o.begin()
		o.connect()

		listener, err := o.w.network.Listen(o.addr())
		must(err)

		server := grpc.NewServer()
		o.listener = listener
		o.grpc = server
		o.id = fmt.Sprintf("%s, incarnation %d", o.name(), o.incarnation)
		fixtures.Instance{Name: o.id}.Register(server, fixtures.ShopName, "Who")
		o.w.up(&check.Incarnation{ID: o.id, Process: o.name(), Addr: o.addr()})
		go func() { _ = server.Serve(listener) }()

		ctx, end := context.WithCancel(context.Background())
		client := o.client
		o.up = true
		o.end = end
		o.running = new(sync.WaitGroup)

		o.running.Go(func() {
			for ctx.Err() == nil {
				o.keep(ctx, client)
				pause(ctx, startOver)
			}
		})
	})
}

// keep puts the entry on a lease, and returns when the keepalives of the lease
// end.
func (o *writer) keep(ctx context.Context, client *clientv3.Client) {
	bounded, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()

	lease, err := client.Grant(bounded, int64(schedule.ShortTTL/time.Second))
	if err != nil {
		return
	}

	layout := schedule.LayoutNamed(o.spec.Layout)
	e := endpoint.Endpoint{Instance: "writer", Addr: o.addr()}
	value, err := layout.Encode(fixtures.ShopKey, e)
	must(err)

	key := layout.Key(fixtures.ShopKey, e, int64(lease.ID))
	_, err = client.Put(bounded, key, string(value), clientv3.WithLease(lease.ID))
	if err != nil {
		return
	}

	alive, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return
	}

	for range alive {
	}
}

// kill ends the process without notice, as is usual for such code.
func (o *writer) kill() {
	o.do(func() {
		if !o.up {
			return
		}

		o.up = false
		o.w.gone(o.id, true)
		o.listener.Close()
		o.crash()
		o.end()
		o.grpc.Stop()
		o.running.Wait()
		o.disconnect()
	})
}
