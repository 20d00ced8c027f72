package steer

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// TestHistory_Large keeps the last of very large live policies.
func TestHistory_Large(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	const size, kept = 250_000, maxPast / 250_000
	var last int64
	for range kept + 3 {
		put, err := etcd.Admin().Put(t.Context(), "_grpc_config/acme/user", strings.Repeat("x", size))
		if err != nil {
			t.Fatal(err)
		}
		last = put.Header.Revision
	}
	s, err := store.Open(clientv3.Config{Endpoints: etcd.Endpoints()}, "", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, from, err := History(t.Context(), s, "acme/user")
	if err != nil || len(all) != kept || all[0].Revision != from || all[kept-1].Revision != last {
		t.Errorf("%d policies from %d on, the last put at %d: %v", len(all), from, last, err)
	}
}
