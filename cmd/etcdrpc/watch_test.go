package main

import (
	"bytes"
	"context"
	"fmt"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"io"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// watched is a service of a few instances, one of them drained and one malformed.
func watched(values ...string) *view {
	const key = "acme/user"
	entries := []survey.Entry{{Key: survey.ConfigPrefix + key, Value: []byte(`{"loadBalancingConfig":[{"etcd":{"drain":["b"],"childPolicy":[{"round_robin":{}}]}}]}`)}}
	for n, value := range values {
		entries = append(entries, survey.Entry{Key: key + "/" + string(rune('a'+n)), Value: []byte(value), Lease: 1, CreateRevision: int64(n + 1), ModRevision: int64(n + 1)})
	}
	s := survey.All(entries)[0]
	times := map[int64]survey.LeaseTime{1: {Left: 14, Granted: 15}}
	return &view{Snapshot: &store.Snapshot{Services: []*survey.Service{s}}, leases: times, full: func(key string) string { return key }}
}

const (
	fullValue = `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1","zone":"eu-1a","weight":100}}`
	longValue = `{"Addr":"a-host-with-a-long-name.production.example.com:9000","Metadata":{"version":"v1.2.3-20260101-abcdef","zone":"eu-1b","weight":100}}`
)

// TestView_Drain reads the list of what is drained once, however many instances there are.
func TestView_Drain(t *testing.T) {
	const instances, names = 100, 1000
	values := make([]string, instances)
	for n := range values {
		values[n] = fmt.Sprintf("10.0.0.%d:9000", n)
	}
	v := watched(values...)
	v.Services[0].Config.Value = fmt.Appendf(nil, `{"loadBalancingConfig":[{"etcd":{"drain":[%s"b"],"childPolicy":[{"round_robin":{}}]}}]}`, strings.Repeat(`"x",`, names))
	for what, show := range map[string]func(){"rows": func() { v.rows() }, "json": func() { v.json() }} {
		if got := testing.AllocsPerRun(1, show); got > 10*(instances+names) {
			t.Errorf("%s: %.0f allocations for %d instances and a list of %d", what, got, instances, names)
		}
	}
}

// TestWatch_BrokenOutput ends a watch whose reader has gone.
func TestWatch_BrokenOutput(t *testing.T) {
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	reader, out := io.Pipe()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	var errs bytes.Buffer
	code := newApp().execute(ctx, at(etcd, "watch", "acme/user"), out, &errs)
	if code != exitUnable || strings.Contains(errs.String(), "trying again") {
		t.Errorf("it ends with %d and says %s", code, errs.String())
	}
}
