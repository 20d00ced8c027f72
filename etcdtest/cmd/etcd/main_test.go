package main

import (
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// The command removes recorded requests, because it may run for a long time.
func TestForget(t *testing.T) {
	cluster := etcdtest.Start(t)
	if _, err := cluster.Client(t).Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}

	go forget(t.Context(), cluster.Calls(), time.Millisecond)

	for polls := 0; len(cluster.Calls().All()) > 0; time.Sleep(time.Millisecond) {
		polls++
		if polls > 30_000 {
			t.Fatal("requests are still recorded after 30 s, want none")
		}
	}
}
