package main

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
)

// maxChanges bounds the changes that a fleet remembers.
const maxChanges = 2000

// checkEvery spaces the looks whether etcd answers.
const checkEvery = 3 * time.Second

// writtenTime bounds the wait for what was written to come back from etcd.
const writtenTime = time.Second

// liveFleet follows all services in etcd. It lists once, and watches from there on. What it has of etcd is made sense of only
// when somebody asks, at most once for each change.
type liveFleet struct {
	store *store

	mu       sync.Mutex
	entries  map[string]entry
	revision int64
	notes    []string
	trouble  string
	changes  []console.Change // the oldest first
	edition  int              // counts what was taken in
	changed  chan struct{}    // closed at the next edition that is told

	surveying sync.Mutex
	surveyed  *survey // the last one; guarded by surveying
}

// survey is what an edition of the fleet means. It does not change.
type survey struct {
	edition  int
	services map[string]*service
	all      []*service
	fleet    *console.Fleet
	seen     map[string]console.Summary // by the service's key
}

func newLiveFleet(s *store) *liveFleet {
	return &liveFleet{store: s, changed: make(chan struct{}), entries: map[string]entry{}}
}

// run follows etcd until ctx ends. What fails is told on the pages, and tried again.
func (f *liveFleet) run(ctx context.Context, listed func()) {
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
		pause(ctx, retryAfter)
	}
}

// liveRange is a range that is followed from a revision on.
type liveRange struct {
	keyRange
	revision int64
}

// follow lists what may be read, and takes in what happens to it, until one of the watches ends.
func (f *liveFleet) follow(ctx context.Context, listed func()) error {
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
			failed <- f.store.replay(clientv3.WithRequireLeader(ctx), part.keyRange, part.revision, func(resp clientv3.WatchResponse) error {
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
			pause(ctx, settle)
			f.tell()
		case <-check.C:
			f.check(ctx, parts[0].from)
		}
	}
}

// check asks etcd for a key, because a watch does not say when etcd is out of reach.
func (f *liveFleet) check(ctx context.Context, key string) {
	_, err := f.store.get(ctx, key)
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
func (f *liveFleet) list(ctx context.Context) ([]liveRange, error) {
	entries, revision, err := f.store.scan(ctx, everything)
	parts := []liveRange{{everything, revision}}
	var notes []string
	if errors.Is(err, errDenied) && f.store.user != "" {
		entries, parts, err = f.listParts(ctx, err)
		var ranges []keyRange
		for _, part := range parts {
			ranges = append(ranges, part.keyRange)
			revision = max(revision, part.revision)
		}
		notes = []string{partOnly(f.store.user, ranges)}
	}
	if err != nil {
		return nil, err
	}
	all := make(map[string]entry, len(entries))
	for _, e := range entries {
		all[e.key] = e
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries, f.revision, f.notes, f.trouble = all, revision, notes, ""
	f.edition++
	return parts, nil
}

// listParts reads the parts that the user's roles allow. denied is why that is not all.
func (f *liveFleet) listParts(ctx context.Context, denied error) (entries []entry, parts []liveRange, err error) {
	allowed, err := f.store.readable(ctx, everything)
	if err != nil || len(allowed) == 0 {
		return nil, nil, denied
	}
	for _, r := range allowed {
		more, revision, err := f.store.scan(ctx, r)
		if err != nil {
			return nil, nil, err
		}
		entries, parts = append(entries, more...), append(parts, liveRange{r, revision})
	}
	return entries, parts, nil
}

// take takes events in, and reports whether there was anything new in them. Where ranges overlap, the same comes twice.
func (f *liveFleet) take(resp clientv3.WatchResponse, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision = max(f.revision, resp.Header.Revision)
	before := f.edition
	for _, event := range resp.Events {
		e := entryOf(event.Kv)
		old, known := f.entries[e.key]
		if known && old.modRevision >= e.modRevision || !known && event.Type == clientv3.EventTypeDelete {
			continue
		}
		if event.Type == clientv3.EventTypeDelete {
			delete(f.entries, e.key)
			old.modRevision = e.modRevision
			f.remember(changeOf(event, old, f.store.full), now)
		} else {
			f.entries[e.key] = e
			f.remember(changeOf(event, e, f.store.full), now)
		}
		f.edition++
	}
	return f.edition != before
}

func (f *liveFleet) remember(c console.Change, now time.Time) {
	c.Time = now
	f.changes = append(f.changes, c)
	if len(f.changes) >= 2*maxChanges {
		f.changes = slices.Clone(f.changes[len(f.changes)-maxChanges:])
	}
}

// changeOf describes an event. e is the entry that came, or went.
func changeOf(event *clientv3.Event, e entry, full func(string) string) console.Change {
	c := console.Change{Revision: e.modRevision, Key: full(e.key), What: "changed", Service: serviceOf(e)}
	switch {
	case event.Type == clientv3.EventTypeDelete:
		c.What = "deleted"
	case event.IsCreate():
		c.What = "put"
	}
	return c
}

// serviceOf returns the key of the service that an entry, or a live config, belongs to.
func serviceOf(e entry) string {
	if key, ok := strings.CutPrefix(e.key, configPrefix); ok {
		return key
	}
	return ownerOf(e)
}

// tell wakes whoever waits for a change.
func (f *liveFleet) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

// awaitRevision waits until the fleet is of a revision, so that who has written sees it at once. It gives up after
// writtenTime: what was written is so nevertheless.
func (f *liveFleet) awaitRevision(ctx context.Context, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, writtenTime)
	defer cancel()
	for changed := f.Changed(); f.seenRevision() < revision && ctx.Err() == nil; changed = f.Changed() {
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (f *liveFleet) seenRevision() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.revision
}

// Changed is part of console.Backend.
func (f *liveFleet) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// changesAt returns what happened to a service since the console began, the latest first.
func (f *liveFleet) changesAt(key string) (all []console.Change) {
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
func (f *liveFleet) look() *survey {
	f.surveying.Lock()
	defer f.surveying.Unlock()
	entries, fleet, edition := f.copy()
	if entries == nil {
		return f.surveyed
	}
	v := &survey{edition: edition, fleet: fleet, services: map[string]*service{}, seen: map[string]console.Summary{}}
	v.all = surveyAll(entries)
	counts := findingCounts(v.all, f.store)
	for _, s := range v.all {
		v.services[s.key] = s
		summary := f.summary(s)
		v.seen[s.key] = summary
		summary.Findings = counts[s.key]
		fleet.Services = append(fleet.Services, summary)
	}
	f.surveyed = v
	return v
}

// copy returns the entries in order, none if the last survey is of this edition.
func (f *liveFleet) copy() ([]entry, *console.Fleet, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.surveyed != nil && f.surveyed.edition == f.edition {
		return nil, nil, 0
	}
	fleet := &console.Fleet{Revision: f.revision, Notes: f.notes, Trouble: f.trouble}
	if n := len(f.changes); n > 0 {
		latest := f.changes[n-1]
		fleet.Latest = &latest
	}
	entries := make([]entry, 0, len(f.entries))
	for _, key := range slices.Sorted(maps.Keys(f.entries)) {
		entries = append(entries, f.entries[key])
	}
	return entries, fleet, f.edition
}

// summary returns a service in a line: the one of the last survey, if nothing of the service has changed since.
func (f *liveFleet) summary(s *service) console.Summary {
	version := versionOf(s)
	if f.surveyed != nil {
		if known, ok := f.surveyed.seen[s.key]; ok && known.Version == version {
			return known
		}
	}
	return summarize(s, version)
}

// Fleet is part of console.Backend.
func (f *liveFleet) Fleet() *console.Fleet { return f.look().fleet }
