package docs

import (
	"context"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const soon = 30 * time.Second

// TestJSON puts the service configs and the entries of the pages into etcd by way of the runtime.
func TestJSON(t *testing.T) {
	etcd := etcdtest.Start(t)
	registry := runtime.NewRegistry(etcd.Client(t))
	t.Cleanup(func() { registry.Close(context.Background()) })
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for _, b := range all(t, "json") {
		switch b.kind {
		case "":
			if err := registry.SetServiceConfig(ctx, "docs/page", b.text); err != nil {
				t.Errorf("%s:%d: %v", b.page, b.line, err)
			}
		case "endpoint":
			checkEndpoint(ctx, t, etcd, registry, b)
		}
	}
}

// checkEndpoint has a client read an entry.
func checkEndpoint(ctx context.Context, t *testing.T, etcd *etcdtest.Cluster, registry *runtime.Registry, b block) {
	t.Helper()
	if _, err := etcd.Admin().Put(ctx, "docs/entry/instance", b.text); err != nil {
		t.Fatal(err)
	}
	for set, err := range registry.Watch(ctx, "docs/entry") {
		if err != nil {
			t.Fatal(err)
		}
		if len(set) != 1 || set[0].Addr == "" {
			t.Errorf("%s:%d: read as %+v", b.page, b.line, set)
		}
		break
	}
}
