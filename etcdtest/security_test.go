package etcdtest_test

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

func TestTLS(t *testing.T) {
	cluster := etcdtest.Start(t, etcdtest.WithTLS())
	put(t, cluster.Client(t), "k", "v")
	wantValue(t, cluster.Admin(), "k", "v")

	if cluster.CAFile() == "" {
		t.Error("CAFile() is \"\", want a file")
	}

	stranger := cluster.Client(t, func(cfg *clientv3.Config) { cfg.TLS = &tls.Config{} })
	if _, err := stranger.Get(within(t, time.Second), "k"); err == nil {
		t.Error("a client that does not trust the authority gets an answer, want an error")
	}
}

func TestAuth(t *testing.T) {
	cluster := etcdtest.Start(t, etcdtest.WithLogger(nil), etcdtest.WithAuth("secret",
		etcdtest.User{
			Name:        "reader",
			Password:    "r",
			Permissions: []etcdtest.Permission{etcdtest.ReadOnly("greeter/")},
		},
		etcdtest.User{
			Name:        "writer",
			Password:    "w",
			Permissions: []etcdtest.Permission{etcdtest.ReadWrite("greeter/")},
		},
		// "" stands for all keys
		etcdtest.User{
			Name:        "auditor",
			Password:    "a",
			Permissions: []etcdtest.Permission{etcdtest.ReadOnly("")},
		},
		etcdtest.User{Name: "nobody", Password: "n", Permissions: []etcdtest.Permission{{}}},
	))

	reader := cluster.Client(t, etcdtest.As("reader", "r"))
	writer := cluster.Client(t, etcdtest.As("writer", "w"))
	auditor := cluster.Client(t, etcdtest.As("auditor", "a"))
	nobody := cluster.Client(t, etcdtest.As("nobody", "n"))

	put(t, cluster.Admin(), "other/a", "v")
	wantValue(t, auditor, "other/a", "v")
	put(t, writer, "greeter/a", "v")
	wantValue(t, reader, "greeter/a", "v")

	for name, err := range map[string]error{
		"a put of the reader":     second(reader.Put(t.Context(), "greeter/a", "x")),
		"a put beyond the prefix": second(writer.Put(t.Context(), "other/a", "x")),
		"a get beyond the prefix": second(reader.Get(t.Context(), "greeter",
			clientv3.WithPrefix())),
		"a put of the auditor": second(auditor.Put(t.Context(), "other/a", "x")),
		"a get without access": second(nobody.Get(t.Context(), "other/a")),
	} {
		if !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: %v, want %v", name, err, rpctypes.ErrPermissionDenied)
		}
	}

	backup, err := cluster.Backup()
	must(t, err)
	must(t, cluster.Wipe())
	wantValue(t, cluster.Client(t, etcdtest.As("reader", "r")), "greeter/a", "")
	must(t, cluster.RestoreBackup(backup))
	wantValue(t, cluster.Client(t, etcdtest.As("reader", "r")), "greeter/a", "v")
	wantValue(t, cluster.Admin(), "greeter/a", "v")
}

func TestTokenExpires(t *testing.T) {
	cluster := etcdtest.Start(t, etcdtest.WithAuth("secret"), etcdtest.WithTokenTTL(time.Second))
	client := cluster.Client(t)
	put(t, client, "k", "v")
	calls := cluster.Calls()
	calls.Reset()

	// etcd drops tokens one to two seconds after their last use; requests keep
	// them alive.
	for calls.Count(etcdtest.Authenticate, "") == 0 {
		<-time.After(2100 * time.Millisecond)
		wantValue(t, client, "k", "v")
	}
}
