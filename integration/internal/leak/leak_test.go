package leak

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func TestOurs(t *testing.T) {
	Check(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // fails if the client has not connected
	None(t)
	registry := runtime.NewRegistry(client)
	for _, err := range registry.Watch(t.Context(), "a") {
		if err == nil || len(Ours()) == 0 {
			t.Errorf("Watch without etcd: %d goroutines, error %v, want at least 1 goroutine and an error", len(Ours()), err)
		}
		break
	}
	if err := registry.Close(t.Context()); err != nil {
		t.Error(err)
	}
	None(t)
}
