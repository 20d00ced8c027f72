package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const (
	// leaderBound is how long the members may take to elect a leader: nothing of ours.
	leaderBound = 20 * time.Second
	// backBound is how long after a storm every server that runs is in etcd. The contract is 3 s on
	// a machine that has nothing else to do.
	backBound = 6 * time.Second
	// convergedBound is how long after a storm every client knows what is in etcd.
	convergedBound = 10 * time.Second
	// goneBound is how long after a storm what killed servers left behind is gone: etcd grants a
	// lease anew when it elects a leader.
	goneBound = 4 * leaseTTL
	// reachedBound is how long after that connections give up servers that are gone: those that
	// vanished suspiciously are held for 30 s.
	reachedBound = 35 * time.Second
)

// truth is what is in etcd.
type truth struct {
	set     map[string]string // addresses by instance
	leases  map[string]int64  // by instance
	granted int               // how many leases there are
}

func (w *world) truth(ctx context.Context) (truth, error) {
	t := truth{set: map[string]string{}, leases: map[string]int64{}}
	admin := w.etcd.Admin()
	got, err := admin.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return t, err
	}
	for _, kv := range got.Kvs {
		var value struct{ Addr string }
		if err := json.Unmarshal(kv.Value, &value); err != nil {
			return t, fmt.Errorf("%s: %w", kv.Key, err)
		}
		instance := strings.TrimPrefix(string(kv.Key), prefix)
		t.set[instance], t.leases[instance] = value.Addr, kv.Lease
	}
	leases, err := admin.Leases(ctx)
	if err != nil {
		return t, err
	}
	t.granted = len(leases.Leases)
	return t, nil
}

// live is the servers that run: their addresses by instance, as truth has them.
func (w *world) live() map[string]string {
	live := make(map[string]string)
	for _, s := range w.servers {
		if l, addr := s.current(); l != nil {
			live[addr] = addr
		}
	}
	return live
}

// calm waits, after a storm, until all is well, and fails where something is not in time.
func (w *world) calm(ctx context.Context) error {
	elect, cancel := context.WithTimeout(ctx, leaderBound)
	defer cancel()
	if _, err := w.etcd.Leader(elect); err != nil {
		return w.cause(ctx, err)
	}
	w.stormy.Store(false)
	steps := []struct {
		name  string
		bound time.Duration
		worst *time.Duration
		look  func(truth) error
	}{
		{"registered again", backBound, &w.figures.back, w.allRegistered},
		{"known to clients", convergedBound, &w.figures.converged, w.allKnown},
		{"gone if dead", goneBound, &w.figures.gone, w.noneElse},
		{"known to clients then", convergedBound, nil, w.allKnown},
		{"reached", reachedBound, &w.figures.reached, func(t truth) error { return w.allReached(ctx, t) }},
	}
	began := time.Now()
	for _, step := range steps {
		if step.worst == nil || step.worst == &w.figures.reached {
			began = time.Now()
		}
		if err := w.wait(ctx, began.Add(step.bound), step.look); err != nil {
			return w.cause(ctx, fmt.Errorf("at %v: not %s within %v: %w", w.at(), step.name, step.bound, err))
		}
		if step.worst != nil {
			*step.worst = max(*step.worst, time.Since(began))
		}
		w.say("  %s %v after the storm", step.name, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// wait looks at etcd again and again until look is content. The last look is after the deadline. What
// it was not content with for long is said.
func (w *world) wait(ctx context.Context, deadline time.Time, look func(truth) error) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	for {
		late := time.Now().After(deadline)
		read, cancel := context.WithTimeout(ctx, 5*time.Second)
		t, err := w.truth(read)
		cancel()
		if err == nil {
			err = look(t)
		}
		if err == nil || late {
			return err
		}
		if time.Since(said) > 2*time.Second {
			said = time.Now()
			w.say("  not yet: %v", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cause is what was violated elsewhere, if that is why err came to be.
func (w *world) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// allRegistered tells that each server that runs is in etcd, on the lease that it says.
func (w *world) allRegistered(t truth) error {
	for _, s := range w.servers {
		l, addr := s.current()
		if l == nil {
			continue
		}
		all := l.server.Status()
		if len(all) != 1 || all[0].State != runtime.StateRegistered || t.set[addr] != addr || t.leases[addr] != int64(all[0].LeaseID) {
			return fmt.Errorf("server %d says %+v; in etcd is %q on lease %x", s.index, all, t.set[addr], t.leases[addr])
		}
	}
	return nil
}

// allKnown tells that each client has what is in etcd.
func (w *world) allKnown(t truth) error {
	for _, c := range w.clients {
		if !c.holds(t.set) {
			return fmt.Errorf("client %d knows %v; in etcd are %v", c.index, sorted(c.knows()), sorted(t.set))
		}
	}
	return nil
}

// noneElse tells that nothing is in etcd but what the servers that run have there.
func (w *world) noneElse(t truth) error {
	if live := w.live(); !maps.Equal(t.set, live) {
		return fmt.Errorf("in etcd are %v; those that run are %v", sorted(t.set), sorted(live))
	}
	if t.granted != len(t.set) {
		return fmt.Errorf("%d leases for %d servers", t.granted, len(t.set))
	}
	return nil
}

// allReached tells that every connection reaches the servers in etcd and no others.
func (w *world) allReached(ctx context.Context, t truth) error {
	w.mu.Lock()
	others := slices.Collect(maps.Keys(w.retired))
	w.mu.Unlock()
	errs := make([]error, len(w.clients))
	var all sync.WaitGroup
	for i, c := range w.clients {
		all.Go(func() { errs[i] = c.probe(ctx, t.set, others) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func sorted(set map[string]string) []string { return slices.Sorted(maps.Keys(set)) }
