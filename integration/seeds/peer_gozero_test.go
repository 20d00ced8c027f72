package seeds

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
	"google.golang.org/grpc/resolver"
)

func TestMain(m *testing.M) {
	logx.Disable() // go-zero keeps its etcd clients until the process ends, and logs that etcd is away
	os.Exit(m.Run())
}

// goZeroPublish registers with go-zero's own publisher, and unregisters with the test.
func (w *world) goZeroPublish(key, addr string, opts ...discov.PubOption) *discov.Publisher {
	w.t.Helper()
	publisher := discov.NewPublisher(w.etcd.Endpoints(), key, addr, opts...)
	must(w.t, publisher.KeepAlive())
	w.t.Cleanup(func() {
		publisher.Stop()
		w.eventually("go-zero has unregistered "+addr, func() bool {
			return !slices.ContainsFunc(w.entries(key+"/"), func(e entry) bool { return e.value == addr })
		})
	})
	return publisher
}

// goZeroResolver resolves by go-zero's own subscriber, as its zrpc does.
func (w *world) goZeroResolver() resolver.Builder {
	return peerResolver{"discov", func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error {
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
	}}
}
