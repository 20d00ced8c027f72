package kit

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Asking calls Ask with each line, as a program's own handler may. A line that is logged under a lock ends in a deadlock.
type Asking struct {
	slog.Handler
	Ask *atomic.Pointer[func()]
}

// Handle implements slog.Handler.
func (a Asking) Handle(ctx context.Context, r slog.Record) error {
	if ask := a.Ask.Load(); ask != nil {
		(*ask)()
	}
	return a.Handler.Handle(ctx, r)
}

// Registry returns a registry that logs to a writer and is closed with the test. Whether etcd lets it is not checked, for
// etcd may be away then.
func Registry(t testing.TB, logs io.Writer, client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	t.Helper()
	handler := Asking{slog.NewTextHandler(logs, nil), new(atomic.Pointer[func()])}
	registry := runtime.NewRegistry(client, append([]runtime.Option{runtime.WithLogger(slog.New(handler))}, opts...)...)
	ask := func() { registry.Status() }
	handler.Ask.Store(&ask)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := registry.Close(ctx); err != nil {
			t.Logf("close the registry: %v", err)
		}
	})
	return registry
}
