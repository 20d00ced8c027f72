package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

func newFleet() *Fleet {
	return &Fleet{store: &store.Store{}, news: make(chan struct{}, 1), changed: make(chan struct{})}
}

// What a list has that no watch told counts as changed, as far as both lists could be read.
func TestRelist(t *testing.T) {
	t.Parallel()
	list := func(parts []store.KeyRange, entries ...survey.Entry) store.Listing {
		l := store.Listing{Entries: make(map[string]survey.Entry), Parts: parts}
		for _, e := range entries {
			l.Entries[e.Key] = e
		}
		return l
	}
	at := func(key, value string, created, modified int64) survey.Entry {
		return survey.Entry{Key: key, Value: []byte(value), CreateRevision: created, ModRevision: modified}
	}
	all, acme := []store.KeyRange{store.Everything}, []store.KeyRange{store.PrefixRange("acme/")}
	for name, c := range map[string]struct {
		before, after store.Listing
		want          []string
		told          bool
	}{
		"the first":     {store.Listing{}, list(all, at("acme/user/a", "1", 2, 2)), nil, true},
		"as before":     {list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/a", "1", 2, 2)), nil, false},
		"one that came": {list(all), list(all, at("acme/user/a", "1", 2, 2)), []string{"2 put acme/user/a"}, true},
		"one that went": {list(all, at("acme/user/a", "1", 2, 2)), list(all), []string{"0 deleted acme/user/a"}, true},
		"changed":       {list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/a", "2", 2, 3)), []string{"3 changed acme/user/a"}, true},
		"gone and back": {list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/a", "1", 4, 4)), []string{"4 put acme/user/a"}, true},
		"another of the same revision, from a backup": {
			list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/a", "2", 2, 2)), []string{"2 changed acme/user/a"}, true,
		},
		"the latest last": {
			list(all, at("acme/user/a", "1", 2, 2)), list(all, at("acme/user/b", "", 9, 9), at("acme/user/c", "", 8, 8)),
			[]string{"0 deleted acme/user/a", "8 put acme/user/c", "9 put acme/user/b"}, true,
		},
		"a right that was granted": {list(acme), list(all, at("other/a", "1", 2, 2)), nil, true},
		"a right that was revoked": {list(all, at("other/a", "1", 2, 2)), list(acme), nil, true},
	} {
		f := newFleet()
		f.listing = c.before
		f.relist(c.after, time.Now())
		var got []string
		for _, change := range f.changes {
			got = append(got, fmt.Sprint(change.Revision, " ", change.What, " ", change.Key))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if told := len(f.news) == 1; told != c.told {
			t.Errorf("%s: told %t", name, told)
		}
	}
}
