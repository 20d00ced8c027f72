// Package fleet follows all services in etcd for the console, and makes its edits.
package fleet

import (
	"bytes"
	"cmp"
	"context"
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

// writtenTime bounds the wait for what was written to come back from etcd.
const writtenTime = time.Second

// Fleet follows all services in etcd. What it has of etcd is made sense of only when somebody asks, at most once for each
// change.
type Fleet struct {
	store    *store.Store
	examiner *examiner
	stop     context.CancelFunc
	running  sync.WaitGroup
	news     chan struct{} // holds one when there is something to tell

	mu      sync.Mutex
	listing store.Listing // with what has happened since; nil entries: none yet
	era     int           // counts the lists that were not what the watches had told
	trouble string
	changes []console.Change // the oldest first
	edition int              // counts what was taken in
	changed chan struct{}    // closed at the next edition that is told

	surveying sync.Mutex
	last      *snapshot // guarded by surveying
}

// snapshot is what an edition of the fleet means. It does not change.
type snapshot struct {
	edition  int
	era      int
	parts    []store.KeyRange // what may be read
	services map[string]*survey.Service
	all      []*survey.Service
	fleet    *console.Fleet
	seen     map[string]console.Summary // by the service's key
}

// Start follows etcd, and returns when the fleet is listed for the first time, or cannot be. [Fleet.Close] ends it.
func Start(ctx context.Context, s *store.Store) *Fleet {
	ctx, stop := context.WithCancel(ctx)
	f := &Fleet{store: s, stop: stop, news: make(chan struct{}, 1), changed: make(chan struct{})}
	f.examiner = newExaminer(ctx, f)
	listed := make(chan struct{})
	begun := sync.OnceFunc(func() { close(listed) })
	mirror := store.Mirror{
		Store: s, Ranges: []store.KeyRange{store.Everything},
		Listed:  func(l store.Listing) { f.relist(l, time.Now()); begun() },
		Changed: func(revision int64, events []*clientv3.Event) { f.take(revision, events, time.Now()) },
		Failed:  func(err error) { f.fail(err); begun() },
	}
	f.running.Go(func() { mirror.Run(ctx) })
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

// note counts an edition, and has it told. f.mu is held.
func (f *Fleet) note() {
	f.edition++
	select {
	case f.news <- struct{}{}:
	default: // it will be told with what is there already
	}
}

// relist takes in a list. Where it is not what the watches have told, what is different is remembered as changed: what
// has come and gone again meanwhile is not known.
func (f *Fleet) relist(l store.Listing, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.listing
	missed := f.missed(&before, &l)
	f.listing = l
	same := before.Entries != nil && len(missed) == 0 && slices.Equal(before.Parts, l.Parts)
	if same && f.trouble == "" {
		return
	}
	if !same {
		f.era++
	}
	for _, c := range missed {
		f.remember(c, now)
	}
	f.trouble = ""
	f.note()
}

// missed returns what is different between two lists, as far as both may be read, the oldest first.
func (f *Fleet) missed(before, after *store.Listing) (all []console.Change) {
	if before.Entries == nil {
		return nil
	}
	for key, e := range after.Entries {
		old, known := before.Entries[key]
		c := console.Change{Revision: e.ModRevision, Key: f.store.Full(key), What: console.ChangePut, Service: serviceOf(e)}
		switch {
		case known && old.CreateRevision == e.CreateRevision && old.ModRevision == e.ModRevision && old.Lease == e.Lease && bytes.Equal(old.Value, e.Value):
			continue
		case known && old.CreateRevision == e.CreateRevision:
			c.What = console.ChangeChanged
		case !known && !before.Has(key):
			continue // nobody knows how long it has been there
		}
		all = append(all, c)
	}
	for key, e := range before.Entries {
		if _, ok := after.Entries[key]; !ok && after.Has(key) {
			all = append(all, console.Change{Key: f.store.Full(key), What: console.ChangeDeleted, Service: serviceOf(e)})
		}
	}
	slices.SortFunc(all, func(a, b console.Change) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), strings.Compare(a.Key, b.Key))
	})
	return all
}

// take takes events in.
func (f *Fleet) take(revision int64, events []*clientv3.Event, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listing.Revision = max(f.listing.Revision, revision)
	entries := f.listing.Entries
	for _, event := range events {
		e := store.EntryOf(event.Kv).Shortened()
		old, known := entries[e.Key]
		if event.Type == clientv3.EventTypeDelete {
			if !known {
				continue
			}
			delete(entries, e.Key)
			old.ModRevision = e.ModRevision
			e = old
		} else {
			entries[e.Key] = e
		}
		f.remember(changeOf(event, e, f.store.Full), now)
	}
	if len(events) > 0 {
		f.note()
	}
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
	c := console.Change{Revision: e.ModRevision, Key: full(e.Key), What: console.ChangeChanged, Service: serviceOf(e)}
	switch {
	case event.Type == clientv3.EventTypeDelete:
		c.What = console.ChangeDeleted
	case event.IsCreate():
		c.What = console.ChangePut
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
	return f.listing.Revision
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

// copy returns a snapshot without services, and the entries in order; nil if the last one is of this edition.
func (f *Fleet) copy() (*snapshot, []survey.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != nil && f.last.edition == f.edition {
		return nil, nil
	}
	l := &f.listing
	v := &snapshot{
		edition: f.edition, era: f.era, parts: l.Parts, fleet: &console.Fleet{Revision: l.Revision, Trouble: f.trouble},
		services: make(map[string]*survey.Service), seen: make(map[string]console.Summary),
	}
	if l.Entries != nil && !l.Whole {
		v.fleet.Notes = []string{store.PartOnly(f.store.User, l.Parts)}
	}
	if n := len(f.changes); n > 0 {
		latest := f.changes[n-1]
		v.fleet.Latest = &latest
	}
	return v, survey.InOrder(l.Entries)
}

// summary returns a service in a line: the one of the last survey, if nothing of the service has changed since.
func (f *Fleet) summary(v *snapshot, s *survey.Service, leader string) console.Summary {
	version := versionOf(s, v.era)
	if f.last != nil {
		if known, ok := f.last.seen[s.Key]; ok && known.Version == version && known.Leader == leader {
			return known
		}
	}
	return summarize(s, version, leader, v.closed(s.Key))
}

// Fleet is part of console.Backend.
func (f *Fleet) Fleet() *console.Fleet { return f.look().fleet }
