// Package fleet follows all services in etcd, for the console. It lists once and watches from there on.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// maxChanges bounds the changes that a fleet remembers.
const maxChanges = 2000

// checkEvery spaces the looks whether etcd answers.
const checkEvery = 3 * time.Second

// writtenTime bounds the wait for what was written to come back from etcd.
const writtenTime = time.Second

// Fleet follows all services in etcd. It lists once, and watches from there on. What it has of etcd is made sense of only
// when somebody asks, at most once for each change.
type Fleet struct {
	store    *store.Store
	examiner *examiner
	stop     context.CancelFunc
	ended    chan struct{} // closed when etcd is not followed any more

	mu       sync.Mutex
	entries  map[string]survey.Entry
	revision int64
	notes    []string
	trouble  string
	changes  []console.Change // the oldest first
	edition  int              // counts what was taken in
	changed  chan struct{}    // closed at the next edition that is told

	surveying sync.Mutex
	last      *snapshot // guarded by surveying
}

// snapshot is what an edition of the fleet means. It does not change.
type snapshot struct {
	edition  int
	services map[string]*survey.Service
	all      []*survey.Service
	fleet    *console.Fleet
	seen     map[string]console.Summary // by the service's key
}

// Start follows etcd, and returns when the fleet is listed for the first time, or cannot be. [Fleet.Close] ends it.
func Start(ctx context.Context, s *store.Store) *Fleet {
	ctx, stop := context.WithCancel(ctx)
	f := &Fleet{store: s, stop: stop, ended: make(chan struct{}), changed: make(chan struct{}), entries: map[string]survey.Entry{}}
	f.examiner = newExaminer(ctx, f)
	listed := make(chan struct{})
	go func() {
		defer close(f.ended)
		f.run(ctx, sync.OnceFunc(func() { close(listed) }))
	}()
	select {
	case <-listed:
	case <-ctx.Done():
	}
	return f
}

// Close returns when nothing is followed or looked for any more.
func (f *Fleet) Close() {
	f.stop()
	<-f.ended
	f.examiner.wait()
}

// run follows etcd until ctx ends. What fails is told on the pages, and tried again.
func (f *Fleet) run(ctx context.Context, listed func()) {
	for ctx.Err() == nil {
		err := f.follow(ctx, listed)
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		f.trouble = fmt.Sprintf("%s; trying again", err)
		f.edition++
		f.mu.Unlock()
		f.tell()
		listed()
		store.Pause(ctx, store.RetryAfter)
	}
}

// liveRange is a range that is followed from a revision on.
type liveRange struct {
	store.KeyRange
	revision int64
}

// follow lists what may be read, and takes in what happens to it, until one of the watches ends.
func (f *Fleet) follow(ctx context.Context, listed func()) error {
	parts, err := f.list(ctx)
	if err != nil {
		return err
	}
	f.tell()
	listed()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	failed := make(chan error, len(parts))
	news := make(chan struct{}, 1)
	for _, part := range parts {
		running.Go(func() {
			failed <- f.store.Replay(clientv3.WithRequireLeader(ctx), part.KeyRange, part.revision, func(resp clientv3.WatchResponse) error {
				if f.take(resp, time.Now()) {
					select {
					case news <- struct{}{}:
					default:
					}
				}
				return nil
			})
		})
	}
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-news:
			store.Pause(ctx, store.Settle)
			f.tell()
		case <-check.C:
			f.check(ctx, parts[0].From)
		}
	}
}

// check asks etcd for a key, because a watch does not say when etcd is out of reach.
func (f *Fleet) check(ctx context.Context, key string) {
	_, err := f.store.Get(ctx, key)
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	before := f.trouble
	if f.trouble = problemOf(err); f.trouble != before {
		f.edition++
	}
	after := f.trouble
	f.mu.Unlock()
	if after != before {
		f.tell()
	}
}

// list reads all that the user may.
func (f *Fleet) list(ctx context.Context) ([]liveRange, error) {
	entries, revision, err := f.store.Scan(ctx, store.Everything)
	parts := []liveRange{{store.Everything, revision}}
	var notes []string
	if errors.Is(err, store.ErrDenied) && f.store.User != "" {
		entries, parts, err = f.listParts(ctx, err)
		var ranges []store.KeyRange
		for _, part := range parts {
			ranges = append(ranges, part.KeyRange)
			revision = max(revision, part.revision)
		}
		notes = []string{store.PartOnly(f.store.User, ranges)}
	}
	if err != nil {
		return nil, err
	}
	all := make(map[string]survey.Entry, len(entries))
	for _, e := range entries {
		all[e.Key] = e
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries, f.revision, f.notes, f.trouble = all, revision, notes, ""
	f.edition++
	return parts, nil
}

// listParts reads the parts that the user's roles allow. denied is why that is not all.
func (f *Fleet) listParts(ctx context.Context, denied error) (entries []survey.Entry, parts []liveRange, err error) {
	allowed, err := f.store.Readable(ctx, store.Everything)
	if err != nil || len(allowed) == 0 {
		return nil, nil, denied
	}
	for _, r := range allowed {
		more, revision, err := f.store.Scan(ctx, r)
		if err != nil {
			return nil, nil, err
		}
		entries, parts = append(entries, more...), append(parts, liveRange{r, revision})
	}
	return entries, parts, nil
}

// take takes events in, and reports whether there was anything new in them. Where ranges overlap, the same comes twice.
func (f *Fleet) take(resp clientv3.WatchResponse, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision = max(f.revision, resp.Header.Revision)
	before := f.edition
	for _, event := range resp.Events {
		e := store.EntryOf(event.Kv)
		old, known := f.entries[e.Key]
		if known && old.ModRevision >= e.ModRevision || !known && event.Type == clientv3.EventTypeDelete {
			continue
		}
		if event.Type == clientv3.EventTypeDelete {
			delete(f.entries, e.Key)
			old.ModRevision = e.ModRevision
			f.remember(changeOf(event, old, f.store.Full), now)
		} else {
			f.entries[e.Key] = e
			f.remember(changeOf(event, e, f.store.Full), now)
		}
		f.edition++
	}
	return f.edition != before
}

func (f *Fleet) remember(c console.Change, now time.Time) {
	c.Time = now
	f.changes = append(f.changes, c)
	if len(f.changes) >= 2*maxChanges {
		f.changes = slices.Clone(f.changes[len(f.changes)-maxChanges:])
	}
}

// changeOf describes an event. e is the entry that came, or went.
func changeOf(event *clientv3.Event, e survey.Entry, full func(string) string) console.Change {
	c := console.Change{Revision: e.ModRevision, Key: full(e.Key), What: "changed", Service: serviceOf(e)}
	switch {
	case event.Type == clientv3.EventTypeDelete:
		c.What = "deleted"
	case event.IsCreate():
		c.What = "put"
	}
	return c
}

// serviceOf returns the key of the service that an entry, or a live config, belongs to.
func serviceOf(e survey.Entry) string {
	if key, ok := strings.CutPrefix(e.Key, survey.ConfigPrefix); ok {
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
	for changed := f.Changed(); f.seenRevision() < revision && ctx.Err() == nil; changed = f.Changed() {
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (f *Fleet) seenRevision() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.revision
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
	entries, fleet, edition := f.copy()
	if entries == nil {
		return f.last
	}
	v := &snapshot{edition: edition, fleet: fleet, services: map[string]*survey.Service{}, seen: map[string]console.Summary{}}
	v.all = survey.All(entries)
	counts := findingCounts(v.all, f.store)
	for _, s := range v.all {
		v.services[s.Key] = s
		summary := f.summary(s)
		v.seen[s.Key] = summary
		summary.Findings = counts[s.Key]
		fleet.Services = append(fleet.Services, summary)
	}
	f.last = v
	return v
}

// copy returns the entries in order, none if the last survey is of this edition.
func (f *Fleet) copy() ([]survey.Entry, *console.Fleet, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != nil && f.last.edition == f.edition {
		return nil, nil, 0
	}
	fleet := &console.Fleet{Revision: f.revision, Notes: f.notes, Trouble: f.trouble}
	if n := len(f.changes); n > 0 {
		latest := f.changes[n-1]
		fleet.Latest = &latest
	}
	entries := make([]survey.Entry, 0, len(f.entries))
	for _, key := range slices.Sorted(maps.Keys(f.entries)) {
		entries = append(entries, f.entries[key])
	}
	return entries, fleet, f.edition
}

// summary returns a service in a line: the one of the last survey, if nothing of the service has changed since.
func (f *Fleet) summary(s *survey.Service) console.Summary {
	version := versionOf(s)
	if f.last != nil {
		if known, ok := f.last.seen[s.Key]; ok && known.Version == version {
			return known
		}
	}
	return summarize(s, version)
}

// Fleet is part of console.Backend.
func (f *Fleet) Fleet() *console.Fleet { return f.look().fleet }
