package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// within is the time after the last fault in which all promises must hold
	// again.
	within = 15 * time.Second

	// withinRefused replaces within after denied rights, because the runtime
	// retries a denied read after up to a minute.
	withinRefused = 65 * time.Second

	// looking is the interval between checks of the promises.
	looking = 250 * time.Millisecond
)

// settle waits until all promises hold after the faults. Then it makes calls of
// all kinds, and ordinary changes.
func (w *world) settle() {
	refuses := func(s schedule.Step) bool {
		return s.Kind == schedule.RightsRefused || s.Kind == schedule.CallerRefused
	}

	bound := within
	if w.schedule.Auth && slices.ContainsFunc(w.schedule.Steps, refuses) {
		bound = withinRefused
	}

	// until the entries of a killed server expire
	bound += w.schedule.LeaseTTL() - schedule.ShortTTL
	time.Sleep(bound)

	w.setCalm(w.settled(0, fmt.Sprintf("%v after the last fault", bound)))
	w.callAtLast()
	w.coda()
}

// settled waits until all promises hold. After the timeout it reports the
// broken ones.
func (w *world) settled(timeout time.Duration, when string) bool {
	for end := time.Now().Add(timeout); ; time.Sleep(looking) {
		wrong := w.look().Wrong()
		if len(wrong) == 0 {
			return true
		}

		if !time.Now().Before(end) {
			for promise, what := range wrong {
				w.report(promise, "%s %s", when, what)
			}

			return false
		}
	}
}

// look returns the present state of the world.
func (w *world) look() check.Look {
	readers := make([]check.Reader, len(w.callers))
	var reading sync.WaitGroup
	for i, c := range w.callers {
		reading.Go(func() { readers[i] = c.look() })
	}

	reading.Wait()

	l := w.entries()
	l.Readers = readers

	for _, s := range w.allServers() {
		l.Servers = append(l.Servers, s.look())
	}

	for _, o := range w.writers {
		l.Writers = append(l.Writers, o.addr())
	}

	return l
}

// look returns the present state of the caller.
func (c *caller) look() check.Reader {
	all, err := c.clients.list(context.Background(), time.Second)

	var instances []runtime.Endpoint
	for _, i := range all {
		instances = append(instances, i.Endpoint)
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	return check.Reader{
		Name:      c.name(),
		Config:    c.spec.Config(),
		Watched:   fixtures.Addrs(c.watched),
		WatchErr:  c.watchErr,
		Status:    keyStatus(c.registry, fixtures.ShopKey),
		EtcdErr:   c.registry.Status().Etcd.Err,
		Instances: fixtures.Addrs(instances),
		ListErr:   err,
	}
}

// promptly bounds the time until all promises hold again after a change in a
// calm.
const promptly = 4 * time.Second

// coda makes changes one by one in the calm, to find damage that the faults
// have left.
func (w *world) coda() {
	if !w.calmSince(time.Now()) {
		return
	}

	last := len(w.servers) - 1
	while := 3 * time.Second
	for _, step := range []schedule.Step{
		{Kind: schedule.EntriesDeleted},
		{Kind: schedule.LeaseRevoked},
		{Kind: schedule.ServerPauses, For: while},
		{Kind: schedule.ServerPauses, For: while, Who: last, Text: schedule.ForGood},
		{Kind: schedule.ServerRestarts},
		{Kind: schedule.ServerKilled, Who: last, N: 1},
		{Kind: schedule.Compaction},
		// while this config is in force, calls do not go to every instance
		{Kind: schedule.ConfigPut, Text: schedule.Drain("nobody")},
		{Kind: schedule.ConfigDeleted},
	} {
		bound := promptly + 2*trips*w.line()

		switch step.Kind {
		case schedule.EntriesDeleted:
			bound += grace // callers hold the entries of writers
		case schedule.LeaseRevoked:
			w.setCalm(false) // two servers may claim to lead

		case schedule.ConfigPut:
			if leader := w.leader(); leader != nil {
				step.Text = schedule.Drain(leader.name)
			}

		case schedule.ServerKilled:
			bound += w.schedule.LeaseTTL() + w.servers[step.Who].unready()
		case schedule.ServerRestarts:
			bound += w.servers[step.Who].unready()
		}

		if w.other != nil {
			bound += within // connections to the own region may be in backoff
		}

		w.happen(step)

		if step.Kind == schedule.EntriesDeleted {
			w.listHeld()
		}

		when := fmt.Sprintf("%v after this: %s:", bound, w.schedule.Words(step))
		if !w.settled(bound, when) {
			return
		}

		w.setCalm(true)
		w.callNewer()
		time.Sleep(time.Second) // so that callers make calls after the change
	}
}

// listHeld makes callers list the instances while they hold deleted entries.
// The list must not have these.
func (w *world) listHeld() {
	time.Sleep(2*w.line() + 100*time.Millisecond)

	for _, c := range w.callers {
		has := w.entries().Registered()
		held := keyStatus(c.registry, fixtures.ShopKey).Held // 0 until the deletion is seen
		all, err := c.clients.list(context.Background(), time.Millisecond)
		has = append(has, w.entries().Registered()...)

		for _, i := range all {
			if err == nil && held > 0 && !slices.Contains(has, i.Addr) {
				w.report(check.Listed, "%s lists %s, want no held endpoint", c.name(),
					i.Addr)
			}
		}
	}
}

// callNewer makes callers call a method that only some servers have. If all
// entries name methods, no call may reach the other servers.
func (w *world) callNewer() {
	all := true
	newer := false
	for _, e := range w.etcd.Entries(fixtures.ShopKey) {
		if read := fixtures.Read(e); read.Service != "" {
			all = all && read.Methods != ""
			newer = newer || strings.Contains(read.Methods, "WhoNewer")
		}
	}

	for _, c := range w.callers {
		for range 2 * len(w.servers) {
			if !all || !newer || !c.plain() {
				break
			}

			_, err := fixtures.Ask(context.Background(), c.clients.shop,
				fixtures.WhoNewer)

			if status.Code(err) == codes.Unimplemented {
				w.report(check.Unserved,
					"call of the newer method by %s: %v, want an answer of a server that has the method",
					c.name(), err)
			}
		}
	}
}
