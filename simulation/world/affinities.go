package world

import (
	"context"
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// callsOfOne is how many calls are made with one affinity, to see whether they reach one instance.
const callsOfOne = 3

// wrongAffinities has each caller whose policy goes by affinities make calls with them, and reports it if those of one do not
// reach one instance within a bound.
func (w *World) wrongAffinities(ctx context.Context) {
	for _, c := range w.callers {
		policy, known := w.policyOf(c)
		if !known || !strings.Contains(policy, "ring_hash") {
			continue
		}
		if wrong := lastingly(func() string { return c.scattered(ctx) }); wrong != "" {
			w.report(check.Affine, "%s: %s", c.name(), wrong)
		}
	}
}

// scattered describes an affinity whose calls reach several instances, "" if there is none.
func (c *caller) scattered(ctx context.Context) string {
	for i := range affinities {
		affinity := affinityNamed(i)
		first := ""
		for n := range callsOfOne {
			from := c.call(runtime.WithAffinity(ctx, affinity), c.clients, shopWho, "")
			if n == 0 {
				first = from
			}
			if from != first || from == "" {
				return fmt.Sprintf("calls with the affinity %s were answered by %q and %q", affinity, first, from)
			}
		}
	}
	return ""
}
