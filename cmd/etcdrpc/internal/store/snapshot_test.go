package store

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

func put(t *testing.T, etcd *etcdtest.Cluster, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if _, err := etcd.Admin().Put(t.Context(), key, "10.0.0.7:9000"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFollow tells what is there, each change, that etcd is away, and what has changed meanwhile once it is back, also after it was
// restored from a backup.
func TestFollow(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	s, err := Open(etcd.Config(), "", soon)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	counts, away := make(chan int, 100), make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.Follow(ctx, func(ctx context.Context) (*Snapshot, error) { return s.Under(ctx, "acme/") }, func(n *Snapshot, err error) {
		if err != nil {
			away <- struct{}{}
			return
		}
		total := 0
		for _, found := range n.Services {
			total += len(found.Instances)
		}
		counts <- total
	})
	await := func(want int) {
		t.Helper()
		for timeout := time.After(soon); ; {
			select {
			case got := <-counts:
				if got == want {
					return
				}
			case <-timeout:
				t.Fatalf("%d instances are not seen", want)
			}
		}
	}
	await(0)
	put(t, etcd, "acme/user/10.0.0.7:9000", "other/user/10.0.0.7:9000")
	await(1)
	put(t, etcd, "acme/order/10.0.0.7:9000")
	await(2)
	if _, err := etcd.Admin().Delete(t.Context(), "acme/user/10.0.0.7:9000"); err != nil {
		t.Fatal(err)
	}
	await(1)
	etcd.Cut()
	select {
	case <-away:
	case <-time.After(soon):
		t.Fatal("nobody says that etcd is away")
	}
	etcd.Restore()
	put(t, etcd, "acme/mail/10.0.0.7:9000")
	await(2)
}

// TestAt_Rights reads what a role for "key/" alone may read, and nothing where that is not allowed.
func TestAt_Rights(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret", etcdtest.User{Name: "reader", Password: "secret", Permissions: []etcdtest.Permission{etcdtest.ReadOnly("acme/user/")}}))
	put(t, etcd, "acme/user/10.0.0.7:9000")
	cfg := etcd.Config()
	cfg.Username, cfg.Password = "reader", "secret"
	s, err := Open(cfg, "", soon)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.At(t.Context(), "acme/user"); err != nil || len(n.Services[0].Instances) != 1 || n.Note == "" {
		t.Errorf("%+v: %v", n, err)
	}
	if _, err := s.At(t.Context(), "acme/order"); !errors.Is(err, ErrDenied) {
		t.Errorf("acme/order: %v", err)
	}
}
