package main

import (
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// The command keeps no request: it runs for as long as somebody tries things.
func TestForget(t *testing.T) {
	cluster := etcdtest.Start(t)
	if _, err := cluster.Client(t).Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	go forget(t.Context(), cluster.Calls(), time.Millisecond)
	for looks := 0; len(cluster.Calls().All()) > 0; time.Sleep(time.Millisecond) {
		if looks++; looks > 30_000 {
			t.Fatal("what was asked of etcd is kept")
		}
	}
}
