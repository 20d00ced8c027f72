package kit

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// AskingLogger returns a logger whose handler calls a function with each new message, as a program's handler may: a message logged
// under a lock that the function takes ends in a deadlock. The handler calls nothing before ask sets the function.
func AskingLogger(w io.Writer) (logger *slog.Logger, ask func(func())) {
	h := asking{slog.NewTextHandler(w, nil), new(atomic.Pointer[func()]), new(sync.Map)}
	return slog.New(h), func(f func()) { h.ask.Store(&f) }
}

type asking struct {
	slog.Handler
	ask  *atomic.Pointer[func()]
	seen *sync.Map // the messages
}

// Handle implements slog.Handler.
func (a asking) Handle(ctx context.Context, r slog.Record) error {
	_, seen := a.seen.LoadOrStore(r.Message, true)
	if ask := a.ask.Load(); ask != nil && !seen {
		(*ask)()
	}
	return a.Handler.Handle(ctx, r)
}

// Registry returns a registry that logs to a writer and closes with the test. It ignores errors of
// Close that etcd causes: etcd may be down by then.
func Registry(t testing.TB, logs io.Writer, client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	t.Helper()
	logger, ask := AskingLogger(logs)
	registry := runtime.NewRegistry(client, append([]runtime.Option{runtime.WithLogger(logger)}, opts...)...)
	ask(func() { registry.Status() })
	t.Cleanup(func() {
		if err := registry.Close(Bounded(t, time.Second)); err != nil {
			t.Logf("close the registry: %v", err)
		}
	})
	return registry
}
