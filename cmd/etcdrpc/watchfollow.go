package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

const (
	// refresh spaces the looks at the leases on a terminal, and recheck those that notice an etcd which does not answer.
	refresh = time.Second
	recheck = 10 * time.Second
)

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

// outputError is a view that could not be shown. Another attempt would leave a gap in what was.
type outputError struct{ error }

func (e outputError) Unwrap() error { return e.error }

// condition is what makes an entry another if it changes.
type condition struct {
	revision int64
	drained  bool
}

// run ends with ctx, and when its output fails. What goes wrong with etcd later than at the first look is told and tried again.
func (w *watch) run(ctx context.Context) error {
	seen := false
	for {
		err := w.follow(ctx, func() { seen = true })
		if ctx.Err() != nil {
			return nil
		}
		var failed outputError
		if !seen || errors.As(err, &failed) {
			return err
		}
		w.say(err)
		store.Pause(ctx, store.RetryAfter)
	}
}

// follow shows the service at each change until etcd fails.
func (w *watch) follow(ctx context.Context, seen func()) error {
	v, r, revision, err := w.look(ctx)
	if err != nil {
		return err
	}
	seen()
	if err := w.show(v); err != nil {
		return outputError{err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan struct{}, 1)
	failed := make(chan error, 2)
	nudge := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	go func() { failed <- w.store.Follow(ctx, r, revision, nudge) }()
	go func() {
		// Who may not see the live config still sees the instances.
		if err := w.store.Follow(ctx, store.ConfigOf(w.key), revision, nudge); !errors.Is(err, store.ErrDenied) {
			failed <- err
		}
	}()
	return w.keep(ctx, v, changed, failed)
}

// keep shows the service at each change, and the time left on its leases as it passes.
func (w *watch) keep(ctx context.Context, v *view, changed <-chan struct{}, failed <-chan error) error {
	check := time.NewTicker(recheck)
	defer check.Stop()
	var aged <-chan time.Time
	if w.refresh {
		ticker := time.NewTicker(refresh)
		defer ticker.Stop()
		aged = ticker.C
	}
	for {
		var err error
		select {
		case <-changed:
			store.Pause(ctx, store.Settle)
			v, _, _, err = w.look(ctx)
		case <-check.C:
			v, _, _, err = w.look(ctx)
		case <-aged:
			v, err = w.time(ctx, v, w.wanted(v))
		case err = <-failed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if err := w.show(v); err != nil {
			return outputError{err}
		}
	}
}

// look reads the service as it is now, and of its leases those that are wanted of entries that are new or changed.
func (w *watch) look(ctx context.Context) (*view, store.KeyRange, int64, error) {
	found, r, revision, err := w.store.Service(ctx, w.key)
	if found == nil {
		return nil, r, 0, err
	}
	v := &view{services: []*survey.Service{found}, full: w.store.Full}
	if err != nil {
		v.note = w.store.NoConfigs(store.ConfigOf(w.key), store.DrainUnseen)
	}
	fresh, looked := w.fresh(found)
	wanted := slices.DeleteFunc(w.wanted(v), func(id int64) bool { return !fresh[id] })
	if v, err = w.time(ctx, v, wanted); err == nil {
		w.looked = looked
	}
	return v, r, revision, err
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
	return &view{services: v.services, leases: times, full: v.full, note: v.note}, nil
}
