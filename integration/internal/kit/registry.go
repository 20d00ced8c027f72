package kit

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Registry returns a registry that logs to a writer and is closed with the test. Whether etcd lets it is not checked, for
// etcd may be away then.
func Registry(t testing.TB, logs io.Writer, client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(logs, nil))
	registry := runtime.NewRegistry(client, append([]runtime.Option{runtime.WithLogger(logger)}, opts...)...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := registry.Close(ctx); err != nil {
			t.Logf("close the registry: %v", err)
		}
	})
	return registry
}
