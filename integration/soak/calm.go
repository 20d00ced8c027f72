package main

import (
	"context"
	"encoding/json"
	"errors"
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
	addrs   map[string]string // by instance
	leases  map[string]int64  // by instance
	granted int               // how many leases there are
}

func (w *world) truth(ctx context.Context) (truth, error) {
	t := truth{addrs: map[string]string{}, leases: map[string]int64{}}
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
		t.addrs[instance], t.leases[instance] = value.Addr, kv.Lease
	}
	leases, err := admin.Leases(ctx)
	if err != nil {
		return t, err
	}
	t.granted = len(leases.Leases)
	return t, nil
}

// calm waits, after a storm, until all is well, and fails where something is not in time.
func (w *world) calm(ctx context.Context) error {
	elect, cancel := context.WithTimeout(ctx, leaderBound)
	defer cancel()
	if _, err := w.etcd.Leader(elect); err != nil {
		return err
	}
	w.stormy.Store(false)
	began := time.Now()
	for _, step := range []struct {
		name  string
		bound time.Duration
		worst *time.Duration // nil: it is not reported, and begins when the one before has ended
		look  func(context.Context, truth) error
	}{
		{"registered again", backBound, &w.back, w.allRegistered},
		{"known to clients", convergedBound, &w.converged, w.allKnown},
		{"gone if dead", goneBound, nil, w.noneElse},
		{"reached", reachedBound, nil, w.allReached},
	} {
		if step.worst == nil {
			began = time.Now()
		}
		if err := w.wait(ctx, began.Add(step.bound), step.look); err != nil {
			return fmt.Errorf("not %s within %v: %w", step.name, step.bound, err)
		}
		took := time.Since(began)
		if step.worst != nil {
			*step.worst = max(*step.worst, took)
		}
		w.say("  %s after %v", step.name, took.Round(time.Millisecond))
	}
	return nil
}

// wait looks at etcd again and again until look is content. The last look is after the deadline.
func (w *world) wait(ctx context.Context, deadline time.Time, look func(context.Context, truth) error) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		late := time.Now().After(deadline)
		read, cancel := context.WithTimeout(ctx, 5*time.Second)
		t, err := w.truth(read)
		cancel()
		if err == nil {
			err = look(ctx, t)
		}
		if err == nil || late {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// allRegistered tells that each server that runs is in etcd, on the lease that it says.
func (w *world) allRegistered(_ context.Context, t truth) error {
	for _, s := range w.servers {
		l := s.life.Load()
		if l == nil {
			continue
		}
		all := l.server.Status()
		if len(all) != 1 || all[0].State != runtime.StateRegistered || t.addrs[l.addr] != l.addr || t.leases[l.addr] != int64(all[0].LeaseID) {
			return fmt.Errorf("server %d says %+v; in etcd is %q on lease %x", s.index, all, t.addrs[l.addr], t.leases[l.addr])
		}
	}
	return nil
}

// allKnown tells that each client has what is in etcd.
func (w *world) allKnown(_ context.Context, t truth) error {
	for _, c := range w.clients {
		if known := c.knows(); !maps.Equal(known, t.addrs) {
			return fmt.Errorf("client %d knows %v; in etcd are %v", c.index, sorted(known), sorted(t.addrs))
		}
	}
	return nil
}

// noneElse tells that nothing is in etcd but what the servers that run have there.
func (w *world) noneElse(_ context.Context, t truth) error {
	live := make(map[string]string)
	for _, s := range w.servers {
		if l := s.life.Load(); l != nil {
			live[l.addr] = l.addr
		}
	}
	if !maps.Equal(t.addrs, live) {
		return fmt.Errorf("in etcd are %v; those that run are %v", sorted(t.addrs), sorted(live))
	}
	if t.granted != len(t.addrs) {
		return fmt.Errorf("%d leases for %d servers", t.granted, len(t.addrs))
	}
	return nil
}

// allReached tells that every client knows the servers in etcd and no others, and reaches them.
func (w *world) allReached(ctx context.Context, t truth) error {
	if err := w.allKnown(ctx, t); err != nil {
		return err
	}
	return w.eachClient(func(c *client) error { return c.probe(ctx, t.addrs) })
}

// eachClient does something with all clients at once, and returns the errors.
func (w *world) eachClient(do func(*client) error) error {
	errs := make(chan error, len(w.clients))
	var all sync.WaitGroup
	for _, c := range w.clients {
		all.Go(func() { errs <- do(c) })
	}
	all.Wait()
	close(errs)
	var joined error
	for err := range errs {
		joined = errors.Join(joined, err)
	}
	return joined
}

func sorted(set map[string]string) []string { return slices.Sorted(maps.Keys(set)) }
