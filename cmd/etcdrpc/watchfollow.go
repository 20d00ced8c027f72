package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
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

	times  map[int64]survey.LeaseTime // as far as they are known
	looked map[string]condition       // the entries that have been looked at, by their keys
}

// condition is what makes an entry another if it changes.
type condition struct {
	revision int64
	drained  bool
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
	var replica store.Replica
	changed := make(chan struct{}, 1)
	failed := make(chan error)
	following.Go(func() {
		nudge := func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		tell := func(err error) {
			select {
			case failed <- err:
			case <-ctx.Done():
			}
		}
		replica.Follow(ctx, w.store, nudge, tell, r, store.ConfigOf(w.key), store.PrefixRange(servicekey.LeaderPrefix(w.key)))
	})
	return w.keep(ctx, &replica, changed, failed)
}

// keep shows the service at each change, and the time left on its leases as it passes.
func (w *watch) keep(ctx context.Context, replica *store.Replica, changed <-chan struct{}, failed <-chan error) error {
	var aged <-chan time.Time
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
		case <-changed:
			if v != nil {
				store.Pause(ctx, store.Settle)
			}
			next, err = w.look(ctx, w.viewOf(replica))
		case <-aged:
			if v != nil {
				next, err = w.again(ctx, v)
			}
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
	entries, l, _ := replica.Look()
	config, ok := slices.BinarySearchFunc(entries, store.ConfigOf(w.key).From, func(e survey.Entry, key string) int { return strings.Compare(e.Key, key) })
	found, _ := survey.Of(w.key, entries)
	if ok {
		found.Config = &entries[config]
	}
	v := &view{services: []*survey.Service{found}, leaders: store.LeadersAmong(entries), full: w.store.Full}
	if !l.Reads(store.ConfigOf(w.key)) {
		v.note = w.store.NoConfigs(store.ConfigOf(w.key), store.DrainUnseen)
	}
	return v
}

// look asks for the leases that are wanted of entries that are new or changed.
func (w *watch) look(ctx context.Context, v *view) (*view, error) {
	fresh, looked := w.fresh(v.services[0])
	wanted := slices.DeleteFunc(w.wanted(v), func(id int64) bool { return !fresh[id] })
	v, err := w.time(ctx, v, wanted)
	if err != nil {
		return nil, fmt.Errorf("%w; trying again", err)
	}
	w.looked = looked
	return v, nil
}

// again asks for the leases that are wanted once more.
func (w *watch) again(ctx context.Context, v *view) (*view, error) {
	v, err := w.time(ctx, v, w.wanted(v))
	if err != nil {
		return nil, fmt.Errorf("%w; trying again", err)
	}
	return v, nil
}

// fresh returns the leases of the entries that are new or changed, and the condition of all.
func (w *watch) fresh(s *survey.Service) (leases map[int64]bool, looked map[string]condition) {
	leases, looked = make(map[int64]bool), make(map[string]condition)
	drained := s.Drained()
	for _, i := range slices.Concat(s.Instances, s.Malformed) {
		now := condition{i.Entry.ModRevision, drained[i.Addr]}
		looked[i.Entry.Key] = now
		if w.looked[i.Entry.Key] != now {
			leases[i.Entry.Lease] = true
		}
	}
	return leases, looked
}

// time returns a view with the time left on some leases, and of the others what was known last.
func (w *watch) time(ctx context.Context, v *view, leases []int64) (*view, error) {
	asked, err := w.store.Leases(ctx, leases)
	if err != nil {
		return nil, err
	}
	times := make(map[int64]survey.LeaseTime)
	for _, id := range survey.LeaseIDs(v.services) {
		if t, ok := w.times[id]; ok {
			times[id] = t
		}
	}
	maps.Copy(times, asked)
	w.times = times
	return &view{services: v.services, leases: times, leaders: v.leaders, full: v.full, note: v.note}, nil
}
