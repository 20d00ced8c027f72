package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
)

// testTimeout bounds waits that would hang.
const testTimeout = 30 * time.Second

// An error of a write says that the write may be in force only if the response
// is missing.
func TestReplace_Unknown(t *testing.T) {
	t.Parallel()

	etcd := etcdtest.Start(t)
	for name, c := range map[string]struct {
		endpoints []string
		before    func()
		unknown   bool
	}{
		"never sent": {[]string{"127.0.0.1:1"}, func() {}, false},
		"changed":    {etcd.Endpoints(), func() { put(t, etcd, "a") }, false},
		"silent":     {etcd.Endpoints(), etcd.Pause, true},
	} {
		s, err := Open(clientv3.Config{Endpoints: c.endpoints}, output.Commands{}, testTimeout)
		must.Succeed(t, err)

		if name == "silent" { // the connection is up
			put(t, etcd, "b")
			_, err := s.GetAt(t.Context(), "b", 0)
			must.Succeed(t, err)
			s.timeout = 300 * time.Millisecond
		}

		c.before()

		_, err = s.Replace(t.Context(), "a", nil, "x")
		if err == nil ||
			strings.Contains(err.Error(), "it may have been written") != c.unknown ||
			name == "changed" && !errors.Is(err, ErrChanged) {
			t.Errorf("%s: error %v, want that it may have been written: %v", name, err, c.unknown)
		}

		etcd.Resume()
		s.Close()
	}
}

// A list keeps the heads of values that no client reads, and its pages respect
// the size limit of an answer.
func TestScan_LargeValues(t *testing.T) {
	t.Parallel()
	const values, size = 12, 1_400_000

	etcd := etcdtest.Start(t)
	for n := range values {
		_, err := etcd.Admin().Put(t.Context(), fmt.Sprintf("acme/user/%02d", n),
			strings.Repeat("x", size))
		must.Succeed(t, err)
	}

	cfg := etcd.Config()
	cfg.MaxCallRecvMsgSize = 8 << 20
	s, err := Open(cfg, output.Commands{}, testTimeout)
	must.Succeed(t, err)

	defer s.Close()

	entries, _, err := s.Scan(t.Context(), listwatch.Prefix(""), 0)
	if err != nil || len(entries) != values {
		t.Fatalf("Scan() = %d entries, %v, want %d", len(entries), err, values)
	}

	for _, e := range entries {
		if e.Size != size || len(e.Value) > 10_000 {
			t.Errorf("%s: %d of %d bytes are kept, want at most 10000 of %d", e.Key, len(e.Value),
				e.Size, size)
		}
	}
}

// With endpoints of two clusters, all reads are of one, and nothing is written.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	one := etcdtest.Start(t)
	two := etcdtest.Start(t)
	s, err := Open(clientv3.Config{Endpoints: append(one.Endpoints(), two.Endpoints()...)},
		output.Commands{}, testTimeout)
	must.Succeed(t, err)

	defer s.Close()

	if _, err := s.Replace(t.Context(), "a", nil, "x"); !errors.Is(err, errClusters) {
		t.Errorf("a write returned %v, want %v", err, errClusters)
	}

	put(t, one, "b")

	first, err := s.GetAt(t.Context(), "b", 0)
	for range 20 {
		again, failed := s.GetAt(t.Context(), "b", 0)
		err = cmp.Or(err, failed)
		if err != nil || (again == nil) != (first == nil) {
			t.Fatalf("reads returned %v and %v, error %v, want one cluster's", first, again, err)
		}
	}
}

// Reads are from the leader. Nothing waits long for endpoints that do not
// answer.
func TestLeaderFirst(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithMembers(3))
	leader, err := etcd.Leader(t.Context())
	// it may change
	for got := []string{""}; err == nil &&
		got[0] != leader.Endpoint(); leader, err = etcd.Leader(t.Context()) {
		got = leaderFirst(clientv3.Config{Endpoints: etcd.Endpoints()}, testTimeout)
	}

	must.Succeed(t, err)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)

	defer silent.Close()

	guarded := etcdtest.Start(t, etcdtest.WithAuth("secret")).Endpoints()[0]
	hangs := silent.Addr().String()
	refuses := porttest.Refusing(t)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout/2) // gRPC gives up after 20 s
	defer cancel()

	for _, endpoints := range [][]string{{refuses, refuses}, {leader.Endpoint(), hangs},
		{guarded, hangs}} {
		leaderFirst(clientv3.Config{Context: ctx, Endpoints: endpoints}, time.Hour)
	}

	must.Succeed(t, ctx.Err())
}
