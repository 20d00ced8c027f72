package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

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

// TestWatch_Leases checks that text output reads no lease, and JSON only those of changed entries.
func TestWatch_Leases(t *testing.T) {
	t.Parallel()
	for format, want := range map[output.Format][2]int{output.FormatTable: {0, 0}, output.FormatJSON: {3, 1}} {
		etcd := etcdtest.Start(t)
		for n := range 3 {
			putKey(t, etcd, fmt.Sprintf("acme/user/%d", n), fmt.Sprintf("10.0.0.%d:9000", n), granted(t, etcd, 600))
		}
		f := startFollower(newApp(), at(etcd, "watch", "acme/user", "-o", string(format)))
		defer f.stop()
		for n, pattern := range []string{`10\.0\.0\.2:9000`, `10\.0\.1\.0:9000`} {
			if err := f.wait(pattern); err != nil {
				t.Fatal(err)
			}
			if got := etcd.Calls().Count(etcdtest.LeaseTimeToLive, ""); got != want[n] {
				t.Errorf("%s: %d requests for leases, want %d", format, got, want[n])
			}
			etcd.Calls().Reset()
			putKey(t, etcd, "acme/user/0", "10.0.1.0:9000", granted(t, etcd, 600))
		}
		f.stop()
		ends(t, f.code)
	}
}
