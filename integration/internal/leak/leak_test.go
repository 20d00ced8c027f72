package leak

import (
	"context"
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
	next := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(next)
		for _, err := range registry.Watch(ctx, "a") {
			if err == nil {
				t.Error("there is an etcd where none is to be")
			}
			return
		}
	}()
	<-next // there was news: etcd cannot be reached
	if len(Ours()) == 0 {
		t.Error("a registry that follows a key has no goroutine")
	}
	cancel()
	if err := registry.Close(t.Context()); err != nil {
		t.Error(err)
	}
	None(t)
}
