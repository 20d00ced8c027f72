// Package fleet follows all services in etcd for the console, and makes its edits.
package fleet

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// maxChanges bounds the changes that a fleet remembers.
const maxChanges = 2000

// maxChanged bounds the key of a change that is remembered, in bytes: etcd takes keys of more than a megabyte.
const maxChanged = 8 << 10

// writtenTime bounds the wait for what was written to come back from etcd.
const writtenTime = time.Second

// Fleet follows all services in etcd. What it has of etcd is made sense of only when somebody asks, at most once for each
// change.
type Fleet struct {
	store    *store.Store
	replica  store.Replica
	examiner *examiner
	stop     context.CancelFunc
	running  sync.WaitGroup
	news     chan struct{} // holds one when there is something to tell

	mu      sync.Mutex
	trouble string
	changes []console.Change // the oldest first
	noted   int              // counts what was taken in
	changed chan struct{}    // closed at the next change that is told

	surveying sync.Mutex
	last      *snapshot // guarded by surveying
}

// snapshot is what an edition of the fleet means. It does not change.
type snapshot struct {
	noted    int
	listing  store.Listing // without entries
	services map[string]*survey.Service
	all      []*survey.Service
	fleet    *console.Fleet
	seen     map[string]console.Summary // by the service's key
}

// Start follows etcd, and returns when the fleet is listed for the first time, or cannot be. [Fleet.Close] ends it.
func Start(ctx context.Context, s *store.Store) *Fleet {
	ctx, stop := context.WithCancel(ctx)
	f := &Fleet{store: s, stop: stop, news: make(chan struct{}, 1), changed: make(chan struct{})}
	f.examiner = &examiner{fleet: f, ctx: ctx, known: make(map[string]*examined)}
	listed := make(chan struct{})
	begun := sync.OnceFunc(func() { close(listed) })
	f.replica.Store, f.replica.Ranges, f.replica.Wanted = s, []store.KeyRange{store.Everything}, store.Everything
	f.replica.Changed = func(changes []store.Change) { f.take(changes, time.Now()); begun() }
	f.replica.Failed = func(err error) { f.fail(err); begun() }
	f.running.Go(func() { f.replica.Run(ctx) })
	f.running.Go(func() { f.tellNews(ctx) })
	select {
	case <-listed:
	case <-ctx.Done():
	}
	return f
}

// Close returns when nothing is followed or looked for any more.
func (f *Fleet) Close() {
	f.stop()
	f.running.Wait()
	f.examiner.wait()
}

// tellNews tells what changes, much at once.
func (f *Fleet) tellNews(ctx context.Context) {
	for {
		select {
		case <-f.news:
			store.Pause(ctx, store.Settle)
			f.tell()
		case <-ctx.Done():
			return
		}
	}
}

// fail takes in why what is known may be old; nil: it is not any more.
func (f *Fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if text := problemOf(err); text != f.trouble {
		f.trouble = text
		f.note()
	}
}

// troubled reports whether etcd failed when it was asked last. Who asks now would wait in vain.
func (f *Fleet) troubled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble != ""
}

// note counts something that was taken in, and has it told. f.mu is held.
func (f *Fleet) note() {
	f.noted++
	select {
	case f.news <- struct{}{}:
	default: // it will be told with what is there already
	}
}

// take remembers what has changed.
func (f *Fleet) take(changes []store.Change, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range changes {
		if survey.IsReason(c.Key) || len(c.Key) > maxChanged {
			continue // it is shown with the live config, or not at all
		}
		next := changeOf(c, f.store.Full)
		next.Time = now
		f.changes = append(f.changes, next)
	}
	if len(f.changes) >= 2*maxChanges {
		f.changes = slices.Clone(f.changes[len(f.changes)-maxChanges:])
	}
	f.note()
}

// changeOf describes a change.
func changeOf(c store.Change, full func(string) string) console.Change {
	out := console.Change{Revision: c.Revision, Key: full(c.Key), What: console.ChangeChanged, Service: serviceOf(c.Entry)}
	switch {
	case c.Deleted:
		out.What = console.ChangeDeleted
	case c.Created:
		out.What = console.ChangePut
	}
	return out
}

// serviceOf returns the key of the service that an entry, or a live config, belongs to.
func serviceOf(e survey.Entry) string {
	if key, ok := survey.ConfigOwner(e.Key); ok {
		return key
	}
	return survey.OwnerOf(e)
}

// tell wakes whoever waits for a change.
func (f *Fleet) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

// awaitRevision waits until the fleet is of a revision, so that who has written sees it at once. It gives up after
// writtenTime: what was written is so nevertheless.
func (f *Fleet) awaitRevision(ctx context.Context, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, writtenTime)
	defer cancel()
	for changed := f.Changed(); f.replica.Listing().Revision < revision && ctx.Err() == nil; changed = f.Changed() {
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Changed is part of console.Backend.
func (f *Fleet) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// changesAt returns what happened to a service since the console began, the latest first.
func (f *Fleet) changesAt(key string) (all []console.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range slices.Backward(f.changes) {
		if c.Service == key {
			all = append(all, c)
		}
	}
	return all
}

// look makes sense of the fleet as it is now.
func (f *Fleet) look() *snapshot {
	f.surveying.Lock()
	defer f.surveying.Unlock()
	v, entries := f.copy()
	if v == nil {
		return f.last
	}
	v.all = survey.All(entries)
	kinds, leaders := findingKinds(v.all, f.store), store.LeadersAmong(entries)
	for _, s := range v.all {
		v.services[s.Key] = s
		summary := f.summary(v, s, leaders[s.Key])
		v.seen[s.Key] = summary
		summary.Findings, summary.Failing = kinds[s.Key].names, kinds[s.Key].failing
		v.fleet.Services = append(v.fleet.Services, summary)
	}
	f.last = v
	return v
}

// copy returns a snapshot without services, and the entries in order; nil if the last one is of what is there now.
func (f *Fleet) copy() (*snapshot, []survey.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != nil && f.last.noted == f.noted && f.last.listing.Edition == f.replica.Listing().Edition {
		return nil, nil
	}
	entries, l := f.replica.Look()
	v := &snapshot{
		noted: f.noted, listing: l, fleet: &console.Fleet{Revision: l.Revision, Trouble: f.trouble},
		services: make(map[string]*survey.Service), seen: make(map[string]console.Summary),
	}
	if l.Edition > 0 && !l.Whole {
		v.fleet.Notes = []string{store.PartOnly(f.store.User, l.Parts)}
	}
	if n := len(f.changes); n > 0 {
		latest := f.changes[n-1]
		v.fleet.Latest = &latest
	}
	return v, entries
}

// summary returns a service in a line: the one of the last survey, if nothing of the service has changed since.
func (f *Fleet) summary(v *snapshot, s *survey.Service, leader string) console.Summary {
	version := versionOf(s, v.listing.Era)
	if f.last != nil {
		if known, ok := f.last.seen[s.Key]; ok && known.Version == version && known.Leader == leader {
			return known
		}
	}
	return summarize(s, version, leader, v.closed(s.Key))
}

// Fleet is part of console.Backend.
func (f *Fleet) Fleet() *console.Fleet { return f.look().fleet }

// Propose is part of console.Backend.
func (f *Fleet) Propose(ctx context.Context, asked steer.Asked) (*steer.Edit, error) {
	e, err := steer.Propose(ctx, f.store, asked)
	if errors.As(err, new(steer.DoneError)) {
		return e, nil // the button was pressed twice
	}
	return e, err
}

// Apply is part of console.Backend.
func (f *Fleet) Apply(ctx context.Context, e *steer.Edit) error {
	err := e.Apply(ctx, f.store)
	if err == nil {
		f.awaitRevision(ctx, e.Written)
	}
	return err
}
