package main

import (
	"fmt"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"google.golang.org/grpc"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
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

// usersCmd starts a server of users and sets a variable to its address: users NAME [broken] [noreflection] [tls] [expired]. The

// entriesFrom makes entries of "KEY [@LEASE] VALUE" lines, sorted by key. Without a lease they hang on one of their own.
func entriesFrom(text string) (entries []survey.Entry) {
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		e := survey.Entry{Key: key, Lease: someLease + 1000 + int64(len(entries))}
		if rest, ok := strings.CutPrefix(value, "@"); ok {
			var lease string
			lease, value, _ = strings.Cut(rest, " ")
			_, _ = fmt.Sscan(lease, &e.Lease)
		}
		e.Value = []byte(value)
		entries = append(entries, e)
	}
	return sortedOnce(entries)
}

// sortedOnce sorts entries by their keys, each of which is there once, as etcd has them.
func sortedOnce(entries []survey.Entry) []survey.Entry {
	slices.SortFunc(entries, func(a, b survey.Entry) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(entries, func(a, b survey.Entry) bool { return a.Key == b.Key })
}

const someLease = 7587882123456789012

func asIs(key string) string { return key }
