package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// soon bounds what would hang.
const soon = 30 * time.Second

// A write whose answer does not come says that it may be in force, and one that was never sent, or refused, does not.
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
		s, err := Open(clientv3.Config{Endpoints: c.endpoints}, "", soon)
		if err != nil {
			t.Fatal(err)
		}
		if name == "silent" { // the connection is up
			put(t, etcd, "b")
			if _, err := s.Get(t.Context(), "b"); err != nil {
				t.Fatal(err)
			}
			s.timeout = 300 * time.Millisecond
		}
		c.before()
		_, err = s.Replace(t.Context(), "a", nil, "x")
		if err == nil || strings.Contains(err.Error(), "whether it was written is not known") != c.unknown || name == "changed" && !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
		etcd.Resume()
		s.Close()
	}
}

// A list of values that no client reads keeps their heads, and asks for no more at once than an answer may have.
func TestScan_LargeValues(t *testing.T) {
	t.Parallel()
	const values, size = 12, 1_400_000
	etcd := etcdtest.Start(t)
	for n := range values {
		if _, err := etcd.Admin().Put(t.Context(), fmt.Sprintf("acme/user/%02d", n), strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
	}
	cfg := etcd.Config()
	cfg.MaxCallRecvMsgSize = 8 << 20
	s, err := Open(cfg, "", soon)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	entries, _, err := s.Scan(t.Context(), PrefixRange(""))
	if err != nil || len(entries) != values {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if e.Size != size || len(e.Value) > 10_000 {
			t.Errorf("%s: %d bytes are kept of %d", e.Key, len(e.Value), e.Size)
		}
	}
}
