// Package showtest tests the examples by running them.
package showtest

import (
	"context"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
)

// Run runs an example, which must not fail, and looks for what it must have said.
func Run(t *testing.T, tell func(context.Context, *show.Stage) error, said ...string) {
	t.Helper()
	RunOn(t, nil, tell, said...)
}

// RunOn is Run on an etcd with options.
func RunOn(t *testing.T, opts []etcdtest.Option, tell func(context.Context, *show.Stage) error, said ...string) {
	t.Helper()
	var out strings.Builder
	err := show.Run(t.Context(), &out, tell, opts...)
	t.Logf("it said:\n%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range said {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it did not say %q", want)
		}
	}
}
