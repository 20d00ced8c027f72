package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// DrainUnseen is what comes of a live policy that may not be read, or that clients refuse, where instances are shown.
const DrainUnseen = "drained instances are shown as registered"

const (
	// Settle is how long changes are collected before they are read.
	Settle = 50 * time.Millisecond
	// ReadEvery is the least time between the beginnings of two reads, however often something changes.
	ReadEvery = time.Second
	// RetryAfter spaces the attempts after etcd failed.
	RetryAfter = time.Second
	// relist spaces the reads that notice what no watch tells: a right that was granted, an etcd that was restored.
	relist = 10 * time.Second
)

// Snapshot is what etcd holds of some services.
type Snapshot struct {
	Services []*survey.Service // sorted by key
	Revision int64
	Note     string // what is not known of them

	parts []KeyRange // what was read
}

// Find returns the service at a key, with nothing where there is none.
func (n *Snapshot) Find(key string) *survey.Service {
	for _, s := range n.Services {
		if s.Key == key {
			return s
		}
	}
	return &survey.Service{Key: key}
}

// ranges returns what tells of the services under a prefix: their entries, which have to be readable, and then their live
// configs and candidates for leaders, which most users' roles leave out.
func ranges(prefix string) []KeyRange {
	bare := strings.TrimSuffix(prefix, "/")
	return []KeyRange{PrefixRange(prefix), PrefixRange(survey.ConfigPrefix + bare), PrefixRange(servicekey.LeaderSegment + "/" + bare)}
}

// Under reads the services whose keys begin with a prefix.
func (s *Store) Under(ctx context.Context, prefix string) (*Snapshot, error) {
	return s.read(ctx, ranges(prefix), func(entries []survey.Entry) []*survey.Service {
		all := survey.All(entries)
		for n := 0; n < len(all); n++ { // the live config of "acme2" lies under that of "acme"
			if !strings.HasPrefix(all[n].Key+"/", prefix) {
				all = append(all[:n], all[n+1:]...)
				n--
			}
		}
		return all
	})
}

// At reads the service at a key, and nothing else. Who may read no more than "key/" does not see the entries of the lease suffix layout.
func (s *Store) At(ctx context.Context, key string) (*Snapshot, error) {
	of := func(entries []survey.Entry) []*survey.Service { return []*survey.Service{survey.Of(key, entries)} }
	all := s.ranges(key)
	n, err := s.read(ctx, all, of)
	if errors.Is(err, ErrDenied) {
		all[0] = EntriesOf(endpoint.Reader{}, key)
		n, err = s.read(ctx, all, of)
	}
	return n, err
}

func (s *Store) ranges(key string) []KeyRange {
	return []KeyRange{EntriesOf(survey.AnyLayout, key), ConfigOf(key), PrefixRange(servicekey.LeaderPrefix(key))}
}

func (s *Store) read(ctx context.Context, parts []KeyRange, of func([]survey.Entry) []*survey.Service) (*Snapshot, error) {
	n := &Snapshot{}
	byKey := make(map[string]survey.Entry)
	for i, r := range parts {
		entries, revision, err := s.Scan(ctx, r)
		switch {
		case i > 0 && errors.Is(err, ErrDenied):
			below := r // "acme" may be closed where "acme/" is not
			if below.From += "/"; i == 1 && parts[0].From+"/" != below.From {
				below.End = PrefixRange(below.From).End
				entries, _, err = s.Scan(ctx, below)
			}
			if err == nil {
				r = below
				break
			}
			if i == 1 {
				n.Note = fmt.Sprintf("Live policies under %q may not be read by %s, so %s.", s.named(r.From), s.who(), DrainUnseen)
			}
			continue
		case err != nil:
			return nil, err
		case i == 0:
			n.Revision = revision
		}
		n.parts = append(n.parts, r)
		for _, e := range entries {
			byKey[e.Key] = e
		}
	}
	entries := survey.InOrder(byKey)
	n.Services = of(entries)
	for _, found := range n.Services {
		found.Namespace = s.namespace
		if _, err := found.Live(); err != nil && found.InUse() {
			n.Note = fmt.Sprintf("Clients do not go by the live policy of %s, and running ones keep the last good one, so %s.", s.Full(found.Key), DrainUnseen)
		}
	}
	return n, nil
}

// Follow reads at once, soon after each change, and at times without one. It passes each outcome to told, until ctx ends.
func (s *Store) Follow(ctx context.Context, read func(context.Context) (*Snapshot, error), told func(*Snapshot, error)) {
	for ctx.Err() == nil {
		began := time.Now()
		n, err := read(ctx)
		if ctx.Err() != nil {
			return
		}
		told(n, err)
		if err != nil {
			Pause(ctx, RetryAfter)
			continue
		}
		s.await(ctx, n.parts, n.Revision)
		Pause(ctx, untilRead(time.Since(began)))
	}
}

// untilRead returns how long to wait after a change before the next read, some time after the last one began.
func untilRead(since time.Duration) time.Duration { return max(Settle, ReadEvery-since) }

// await returns when one of some ranges changes after a revision, a watch fails, or it is time to read them again.
func (s *Store) await(ctx context.Context, parts []KeyRange, revision int64) {
	ctx, cancel := context.WithTimeout(ctx, relist)
	var watching sync.WaitGroup
	defer watching.Wait()
	for _, r := range parts {
		watching.Go(func() {
			defer cancel()
			for resp := range s.watcher.Watch(clientv3.WithRequireLeader(ctx), r.From, clientv3.WithRange(r.End), clientv3.WithRev(revision+1), clientv3.WithFragment()) {
				if len(resp.Events) > 0 {
					cancel()
				}
			}
		})
	}
	<-ctx.Done()
	cancel()
}

// Pause waits for a time, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// NamespaceOf returns the longest namespace below this one in which somebody keeps live configs and a key lies, "" for none.
func (s *Store) NamespaceOf(ctx context.Context, key string) (string, error) {
	for end := strings.LastIndexByte(key, '/'); end > 0; end = strings.LastIndexByte(key[:end], '/') {
		mark := key[:end+1] + survey.ConfigPrefix
		resp, err := s.kv.Get(ctx, mark, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil {
			if err = s.explain(fmt.Sprintf("look for keys under %q", s.named(mark)), err); errors.Is(err, ErrDenied) {
				continue
			}
			return "", err
		}
		if len(resp.Kvs) > 0 {
			return key[:end+1], nil
		}
	}
	return "", nil
}
