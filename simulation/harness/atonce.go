package harness

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

const (
	// underWay is how long calls that are made at once take each way.
	underWay = 100 * time.Millisecond
	// timesAtOnce is how often they are made, so that no chance has them go right.
	timesAtOnce = 5
)

// callAtOnce judges, if the policy bounds the calls under way at an instance, that as many are taken as there is room for.
func (t *trial) callAtOnce(ctx context.Context, c *caller) {
	p, known := t.policy(ctx, c)
	if !known || p.Most == 0 {
		return
	}
	t.atLast(check.Bounded, c.name(), func() (wrong string) {
		defer c.alone(network.Link{Delay: underWay})()
		for range timesAtOnce {
			wrong = cmp.Or(wrong, t.wrongBound(ctx, c, p))
		}
		return wrong
	})
}

// wrongBound describes how one call more at once than there is room for goes wrong, "" if one fails and the rest does not.
func (t *trial) wrongBound(ctx context.Context, c *caller, p acme.Policy) string {
	room := t.look(ctx).Room(c.spec, p) * p.Most
	if room == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var mu sync.Mutex
	var failed []error
	served := make(map[string]int)
	var calls sync.WaitGroup
	for range room + 1 {
		calls.Go(func() {
			from, err := acme.Ask(ctx, c.clients.shop, acme.Who)
			mu.Lock()
			defer mu.Unlock()
			if served[t.addressOf(from)]++; err != nil {
				failed = append(failed, err)
			}
		})
	}
	calls.Wait()
	delete(served, "")
	for addr, n := range served {
		if n > p.Most {
			return fmt.Sprintf("%s had %d calls at once, and may have %d", addr, n, p.Most)
		}
	}
	if len(failed) != 1 {
		return fmt.Sprintf("of %d calls at once, and room for %d, these failed: %v", room+1, room, failed)
	}
	return ""
}
