package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// refresh spaces the looks at the leases on a terminal.
const refresh = time.Second

// watch follows one service.
type watch struct {
	store   *store.Store
	key     string
	show    func(*view) error
	say     func(error)         // what has gone wrong, and is tried again
	wanted  func(*view) []int64 // the leases whose time left is shown
	refresh bool                // look at those leases again and again
}

// run ends with ctx, with the first look if that fails, and when its output fails. What goes wrong with etcd later is told.
func (w *watch) run(ctx context.Context) error {
	found, r, err := w.store.Service(ctx, w.key)
	if found == nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	changed := make(chan struct{}, 1)
	failed := make(chan error)
	replica := store.Replica{
		Store: w.store, Ranges: append(store.InNamespaces(w.key), r, store.ConfigOf(w.key), store.PrefixRange(servicekey.LeaderPrefix(w.key))),
		Wanted:  store.EntriesOf(endpoint.Reader{}, w.key),
		Changed: func([]store.Change) { nudge(changed) },
		Failed: func(err error) {
			select {
			case failed <- err:
			case <-ctx.Done():
			}
		},
	}
	following.Go(func() { replica.Run(ctx) })
	return w.keep(ctx, &replica, changed, failed)
}

// nudge leaves one in a channel.
func nudge(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}

// keep shows the service at each change, and the time left on its leases as it passes.
func (w *watch) keep(ctx context.Context, replica *store.Replica, changed chan struct{}, failed <-chan error) error {
	var aged, again <-chan time.Time
	if w.refresh {
		ticker := time.NewTicker(refresh)
		defer ticker.Stop()
		aged = ticker.C
	}
	var v *view
	trouble := ""
	for {
		next, err := v, error(nil)
		select {
		case <-ctx.Done():
			return nil
		case err = <-failed:
		case <-aged:
			if v != nil {
				next, err = w.time(ctx, v, nil)
			}
		case <-changed:
			var known map[int64]survey.LeaseTime
			if v != nil {
				store.Pause(ctx, store.Settle)
			}
			if v != nil && w.refresh {
				known = v.leases
			}
			if next, err = w.time(ctx, w.viewOf(replica), known); err != nil {
				again = time.After(store.RetryAfter)
			}
		case <-again:
			nudge(changed)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && v == nil:
			return err
		case err != nil:
			if err.Error() != trouble {
				trouble = err.Error()
				w.say(err)
			}
			continue
		case next == nil:
			continue
		}
		v, trouble = next, ""
		if err := w.show(v); err != nil {
			return err
		}
	}
}

// viewOf returns the service as it is kept.
func (w *watch) viewOf(replica *store.Replica) *view {
	entries, l := replica.Look()
	found, _ := survey.Of(w.key, entries)
	v := &view{services: []*survey.Service{found}, leaders: store.LeadersAmong(entries), full: w.store.Full}
	v.note = w.store.Refused(v.services, store.DrainUnseen)
	if config := store.KeyOnly(found.ConfigKey()); !l.Reads(config) {
		v.note = w.store.NoConfigs(config, store.DrainUnseen)
	}
	return v
}

// time returns a view with the time left on the leases that are wanted. Of some it is known well enough.
func (w *watch) time(ctx context.Context, v *view, known map[int64]survey.LeaseTime) (*view, error) {
	ids := slices.DeleteFunc(w.wanted(v), func(id int64) bool {
		_, ok := known[id]
		return ok
	})
	leases, err := w.store.Leases(ctx, ids)
	if err != nil {
		return v, fmt.Errorf("%w; trying again", err)
	}
	maps.Copy(leases, known)
	timed := *v
	timed.leases = leases
	return &timed, nil
}
