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
	t.Cleanup(func() { _ = client.Close() }) // it was never connected
	None(t)
	registry := runtime.NewRegistry(client)
	for _, err := range registry.Watch(t.Context(), "a") {
		if err == nil || len(Ours()) == 0 {
			t.Errorf("a registry that follows a key without etcd: %d goroutines, error %v, want some of both", len(Ours()), err)
		}
		break
	}
	if err := registry.Close(t.Context()); err != nil {
		t.Error(err)
	}
	None(t)
}
