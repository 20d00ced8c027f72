package etcdtest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// A test starts an etcd, which ends with the test.
func ExampleStart() {
	_ = func(t *testing.T) {
		cluster := etcdtest.Start(t)
		client := cluster.Client(t)
		if _, err := client.Put(t.Context(), "greeter/a", "10.0.0.1:80"); err != nil {
			t.Fatal(err)
		}
	}
}

// A cluster of three members tolerates the loss of one.
func ExampleWithMembers() {
	_ = func(t *testing.T) {
		cluster := etcdtest.Start(t, etcdtest.WithMembers(3))
		cluster.Member(0).Stop()

		if _, err := cluster.Leader(t.Context()); err != nil {
			t.Fatal(err)
		}

		// ... check that the code under test still works ...
		if err := cluster.Member(0).Restart(); err != nil {
			t.Fatal(err)
		}
	}
}

// The code under test loses its connection to etcd, while the test bypasses the
// fault.
func ExampleCluster_Cut() {
	_ = func(t *testing.T) {
		cluster := etcdtest.Start(t)
		cluster.Cut()

		_, err := cluster.Admin().Delete(t.Context(), "greeter/", clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}

		cluster.Restore()
		// ... check that the code under test notices the deletion ...
	}
}

// etcd is restored from a backup: later writes are gone, and deleted keys are
// back.
func ExampleCluster_RestoreBackup() {
	_ = func(t *testing.T) {
		cluster := etcdtest.Start(t)
		backup, err := cluster.Backup()
		if err != nil {
			t.Fatal(err)
		}

		// ... let the code under test write and delete ...
		if err := cluster.RestoreBackup(backup); err != nil {
			t.Fatal(err)
		}
		// ... check that the code under test repairs its keys ...
	}
}

// A program other than a test runs a cluster.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	cluster, err := etcdtest.New(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()

	client, err := clientv3.New(cluster.Config())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	for range 3 {
		if _, err := client.Put(ctx, "greeter/a", "10.0.0.1:80"); err != nil {
			log.Fatal(err)
		}
	}

	fmt.Println(cluster.Calls().Count(etcdtest.Put, "greeter/"), "puts reached etcd")
	// Output: 3 puts reached etcd
}
