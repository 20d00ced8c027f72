package discovery

import (
	"errors"
	"slices"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

// liveConfigs follows the live service configs of keys: together, or by itself where there are too many. Each is followed by
// itself once list-watch says that it cannot be otherwise. It is safe for concurrent use.
type liveConfigs struct {
	group *listwatch.Group[liveConfig]
	all   listwatch.Range // of those of the namespace
	apart func(why error) // called when they begin to be followed one by one

	mu        sync.Mutex
	followers map[*configFollower]struct{}
	together  *together // nil: nothing is followed
	alone     bool      // each is followed by itself
}

// together is what follows several live configs.
type together struct {
	keys *listwatch.Keys
	stop func()
}

// configFollower is a caller of follow.
type configFollower struct {
	key  string // in etcd
	sink func(listwatch.Update[liveConfig])
	stop func() // ends following the key by itself; nil: it is followed with the others

	told *listwatch.Snapshot[liveConfig] // what sink was called with last; nil: nothing
}

func newLiveConfigs(group *listwatch.Group[liveConfig], namespace string, apart func(error)) *liveConfigs {
	all := ConfigKey(namespace, "")
	return &liveConfigs{
		group: group, all: listwatch.Prefix(all), apart: apart,
		followers: make(map[*configFollower]struct{}),
	}
}

// follow passes the live config under an etcd key to sink until stop is called, as [listwatch.Group.Follow] does.
func (l *liveConfigs) follow(key string, sink func(listwatch.Update[liveConfig])) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &configFollower{key: key, sink: sink}
	l.followers[f] = struct{}{}
	switch {
	case l.together == nil && !l.alone:
		l.followTogether(key)
	case l.alone || !l.together.keys.Add(key):
		l.followAlone(f)
	}
	return sync.OnceFunc(func() { l.leave(f) })
}

func (l *liveConfigs) leave(f *configFollower) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.followers, f)
	if f.stop != nil {
		f.stop()
	} else if l.together.keys.Remove(f.key) {
		l.together.stop()
		l.together = nil
	}
}

// followTogether begins with the first key. It must be called with mu held.
func (l *liveConfigs) followTogether(key string) {
	t := &together{keys: listwatch.NewKeys()}
	t.keys.Add(key)
	l.together = t
	t.stop = l.group.Follow(listwatch.Spec[liveConfig]{Range: l.all, Keys: t.keys, Decode: decodeConfig}, func(u listwatch.Update[liveConfig]) {
		for _, tell := range l.take(t, u) {
			tell()
		}
	})
}

// followAlone follows a key by itself. It must be called with mu held.
func (l *liveConfigs) followAlone(f *configFollower) {
	f.stop = l.group.Follow(listwatch.Spec[liveConfig]{Range: listwatch.Range{From: f.key}, Decode: decodeConfig}, f.sink)
}

// take takes an update of all that are followed together, and returns the calls that tell each follower what is new to it.
func (l *liveConfigs) take(t *together, u listwatch.Update[liveConfig]) (tell []func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t != l.together {
		return nil // stopped meanwhile
	}
	if errors.Is(u.Err, listwatch.ErrApart) {
		t.stop()
		l.together, l.alone = nil, true
		for f := range l.followers {
			if f.stop == nil {
				l.followAlone(f)
			}
		}
		return []func(){func() { l.apart(u.Err) }}
	}
	for f := range l.followers {
		if f.stop != nil {
			continue
		}
		if part, news := f.part(u); news {
			tell = append(tell, func() { f.sink(part) })
		}
	}
	return tell
}

// part returns the follower's part of an update, and reports whether that is news. An error alone is none to a follower that
// knows of a config.
func (f *configFollower) part(u listwatch.Update[liveConfig]) (part listwatch.Update[liveConfig], news bool) {
	part.Snapshot, part.Err = u.Snapshot.Of(f.key), u.Err
	switch {
	case part.Snapshot == nil:
		return part, part.Err != nil
	case f.told == nil || !slices.Equal(part.Snapshot.Items, f.told.Items):
		f.told = part.Snapshot
		return part, true
	}
	return part, false
}
