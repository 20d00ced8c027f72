package main

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// serveUntilEnd serves until the test ends.
func serveUntilEnd(t testing.TB, server *grpc.Server) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // nil after it is stopped
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return listener.Addr().String()
}

// sortedOnce sorts entries by their keys, each of which is there once, as etcd has them.
func sortedOnce(entries []inventory.Entry) []inventory.Entry {
	slices.SortFunc(entries, func(a, b inventory.Entry) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(entries, func(a, b inventory.Entry) bool { return a.Key == b.Key })
}
