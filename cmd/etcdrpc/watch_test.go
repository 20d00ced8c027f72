package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

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
