package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// putKey puts a key into etcd, on a lease if given.
func putKey(t testing.TB, etcd *etcdtest.Cluster, key, value string, lease ...clientv3.LeaseID) {
	t.Helper()

	var opts []clientv3.OpOption
	for _, id := range lease {
		opts = append(opts, clientv3.WithLease(id))
	}

	_, err := etcd.Admin().Put(t.Context(), key, value, opts...)
	must(t, err)
}

func deleteKey(t testing.TB, etcd *etcdtest.Cluster, key string, opts ...clientv3.OpOption) {
	t.Helper()
	_, err := etcd.Admin().Delete(t.Context(), key, opts...)
	must(t, err)
}

// granted returns a lease with a TTL in seconds that is not renewed.
func granted(t testing.TB, etcd *etcdtest.Cluster, seconds int64) clientv3.LeaseID {
	t.Helper()

	lease, err := etcd.Admin().Grant(t.Context(), seconds)
	must(t, err)

	return lease.ID
}

// renewed returns a lease of 15 s that is renewed until the test ends.
func renewed(t testing.TB, etcd *etcdtest.Cluster) clientv3.LeaseID {
	t.Helper()

	lease := granted(t, etcd, 15)
	renewals, err := etcd.Client(t).KeepAlive(t.Context(), lease)
	must(t, err)

	go func() {
		for range renewals {
		}
	}()

	return lease
}

// at returns a command line for an etcd, with timeouts for a busy machine.
func at(etcd *etcdtest.Cluster, args ...string) []string {
	where := []string{args[0], "--endpoints", strings.Join(etcd.Endpoints(), ","),
		"--dial-timeout", "1m", "--command-timeout", "1m"}
	return append(where, args[1:]...)
}

// executed runs a command line of an app, and returns its output and exit code.
func executed(t testing.TB, a *app, args ...string) (stdout, stderr string, code int) {
	t.Helper()

	var out, errs bytes.Buffer
	code = a.execute(t.Context(), args, &out, &errs)

	return out.String(), errs.String(), code
}

// ends waits for a command line to end, and returns its exit code.
func ends(t testing.TB, code <-chan int) int {
	t.Helper()

	select {
	case got := <-code:
		return got
	case <-time.After(soon):
		t.Fatalf("the command has not ended after %v", soon)
		return -1
	}
}

// tempFile writes a file that is removed after the test.
func tempFile(t testing.TB, name string, text []byte) (path string) {
	t.Helper()

	path = filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, text, 0o600))

	return path
}

// serveUntilEnd serves until the test ends.
func serveUntilEnd(t testing.TB, server *grpc.Server) (addr string) {
	t.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // nil after a stop

	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})

	return listener.Addr().String()
}

func must(t testing.TB, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}
