package seeds

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// goZero is go-zero's own core/discov.
var goZero = system{
	name:      "go-zero",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "user.rpc", Layout: runtime.GoZero},
	target:    "etcd:///user.rpc",
	neighbour: "user.rpc2",
	register:  func(w *world, key, addr string) (leave func()) { return w.goZeroPublish(key, addr).Stop },
	returns:   true,
	dial:      func(w *world) *grpc.ClientConn { return w.goZeroConn("user.rpc") },
}

func TestMain(m *testing.M) {
	logx.Disable() // go-zero keeps its etcd clients until the process ends, and logs that etcd is down
	os.Exit(m.Run())
}

// goZeroPublish registers with go-zero's own publisher, and unregisters with the test.
func (w *world) goZeroPublish(key, addr string, opts ...discov.PubOption) *discov.Publisher {
	w.t.Helper()
	publisher := discov.NewPublisher(w.etcd.Endpoints(), key, addr, opts...)
	kit.Must(w.t, publisher.KeepAlive())
	w.t.Cleanup(func() {
		publisher.Stop()
		w.eventually("go-zero has unregistered "+addr, func() bool {
			return !slices.ContainsFunc(w.entries(key+"/"), func(e entry) bool { return e.value == addr })
		})
	})
	return publisher
}

// goZeroConn returns a connection with go-zero's own subscriber as resolver, as its zrpc does.
func (w *world) goZeroConn(key string) *grpc.ClientConn {
	w.t.Helper()
	return w.dial("discov:///"+key, peerResolver{"discov", func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error {
		subscriber, err := discov.NewSubscriber(w.etcd.Endpoints(), target.Endpoint())
		if err != nil {
			return err
		}
		defer subscriber.Close()
		changed := make(chan struct{}, 1)
		subscriber.AddListener(func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		for {
			update(bare(slices.Sorted(slices.Values(subscriber.Values()))))
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	}})
}
