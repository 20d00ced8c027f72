package harness

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// within is how long after the last fault everything must be as it should be.
	within = 15 * time.Second
	// withinRefused is within where rights were refused: refused reads are tried again after a minute at the latest.
	withinRefused = 65 * time.Second
	// looking is how often it is looked whether all is as it should be again.
	looking = 250 * time.Millisecond
)

// settle waits as long as it may take until everything is as it should be after the faults. Then calls go every way, and ordinary things
// happen.
func (t *trial) settle(ctx context.Context) {
	bound := within
	if t.plan.Auth && slices.ContainsFunc(t.plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.RightsRefused || s.Kind == schedule.CallerRefused
	}) {
		bound = withinRefused
	}
	bound += t.plan.LeaseTTL() - schedule.ShortTTL // for what a killed server has left
	time.Sleep(bound)
	t.setCalm(t.settled(ctx, 0, fmt.Sprintf("%v after the last fault", bound)))
	t.callAtLast(ctx)
	t.coda(ctx)
}

// settled waits until everything is as it should be, for some time at the most, and reports what is not then.
func (t *trial) settled(ctx context.Context, most time.Duration, when string) bool {
	for end := time.Now().Add(most); ; time.Sleep(looking) {
		wrong := t.look(ctx).Wrong()
		if len(wrong) == 0 {
			return true
		}
		if !time.Now().Before(end) {
			for promise, what := range wrong {
				t.report(promise, "%s %s", when, what)
			}
			return false
		}
	}
}

// look returns what there is to see of the trial.
func (t *trial) look(ctx context.Context) check.Look {
	readers := make([]check.Reader, len(t.callers))
	var reading sync.WaitGroup
	for i, c := range t.callers {
		reading.Go(func() { readers[i] = c.look(ctx) })
	}
	reading.Wait()
	l := t.entries()
	l.Readers = readers
	for _, s := range t.all() {
		l.Servers = append(l.Servers, s.look())
	}
	for _, o := range t.writers {
		l.Writers = append(l.Writers, o.addr())
	}
	return l
}

// look returns what there is to see of the caller.
func (c *caller) look(ctx context.Context) check.Reader {
	bounded, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	all, err := c.clients.instances.All(bounded)
	var instances []runtime.Endpoint
	for _, i := range all {
		instances = append(instances, i.Endpoint)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return check.Reader{
		Name: c.name(), Config: c.spec.Config(), Watched: acme.Addrs(c.watched), WatchErr: c.watchErr, Status: keyStatus(c.registry, acme.ShopKey), EtcdErr: c.registry.Status().Etcd.Err,
		Instances: acme.Addrs(instances), ListErr: err,
	}
}
