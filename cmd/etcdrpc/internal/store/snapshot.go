package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// drainUnseen describes, for the user, the effect of a live config that is
// unreadable or refused.
const drainUnseen = "drained instances are shown as registered"

const (
	// settle is how long changes are collected before the next read.
	settle = 50 * time.Millisecond

	// readEvery is the minimum time between the starts of two reads.
	readEvery = time.Second

	// relist is the longest time between reads. Watches do not report granted
	// permissions or a restored etcd.
	relist = 10 * time.Second
)

// Snapshot is the services that a read found.
type Snapshot struct {
	Services []*inventory.Service // sorted by key
	Revision int64
	Note     string // what could not be read; "" if everything was read
	Denied   error  // why live configs could not be read; nil if they were read

	// the namespace with live configs that the key or prefix begins with; "" if
	// there is none
	Within string

	parts []listwatch.Range // ranges that were read
}

// Find returns the service at key, or an empty one.
func (n *Snapshot) Find(key string) *inventory.Service {
	for _, s := range n.Services {
		if s.Key == key {
			return s
		}
	}

	return &inventory.Service{Key: key}
}

// Under returns the services whose keys begin with prefix.
func (s *Store) Under(ctx context.Context, prefix string) (*Snapshot, error) {
	bare := strings.TrimSuffix(prefix, "/")
	parts := [][]listwatch.Range{
		{listwatch.Prefix(prefix)},
		{listwatch.Prefix(inventory.ConfigPrefix + bare)},
		{listwatch.Prefix(servicekey.LeaderSegment + "/" + bare)},
	}

	if bare != "" { // a role may permit only "acme/", or only one service
		parts[0] = append(parts[0], EntriesOf(inventory.AnyLayout, bare),
			EntriesOf(endpoint.Reader{}, bare))
		parts[1] = append(parts[1], listwatch.Prefix(inventory.ConfigPrefix+bare+"/"),
			ConfigOf(bare))
		parts[2] = append(parts[2], listwatch.Prefix(candidate.Prefix(bare)))
	}

	// The prefix of acme's live config also matches acme2's.
	isOther := func(s *inventory.Service) bool {
		return !strings.HasPrefix(s.Key+"/", prefix)
	}
	decode := func(entries []inventory.Entry) []*inventory.Service {
		return slices.DeleteFunc(inventory.All(entries), isOther)
	}

	n, err := s.read(ctx, prefix, parts, decode)
	if err == nil && len(n.Services) == 0 && endpoint.CheckKey(prefix) == nil {
		// A user who gives a key expects a service there, whatever its entries
		// look like.
		if one, err := s.At(ctx, prefix); err != nil || one.Services[0].InUse() {
			return one, err
		}
	}

	return n, err
}

// At returns the service at key. A user who may read only "key/" does not get
// the entries of the lease suffix layout.
func (s *Store) At(ctx context.Context, key string) (*Snapshot, error) {
	parts := [][]listwatch.Range{
		{EntriesOf(inventory.AnyLayout, key), EntriesOf(endpoint.Reader{}, key)},
		{ConfigOf(key)},
		{listwatch.Prefix(candidate.Prefix(key))},
	}

	return s.read(ctx, key, parts, func(entries []inventory.Entry) []*inventory.Service {
		return []*inventory.Service{inventory.Of(key, entries)}
	})
}

// read reads three parts of a key or prefix at one revision: entries, live
// configs and candidates. For each part it reads one range: the first that the
// user may read. read fails if the user may not read entries. It omits the
// other parts if the user may not read them, because most roles do not permit
// that. decode turns all parts into services.
func (s *Store) read(
	ctx context.Context,
	key string,
	parts [][]listwatch.Range,
	decode func([]inventory.Entry) []*inventory.Service,
) (*Snapshot, error) {
	n := &Snapshot{}
	byKey := make(map[string]inventory.Entry)

	for i, ranges := range parts {
		r, entries, revision, err := s.scanFirst(ctx, ranges, n.Revision)
		switch {
		case err == nil:
			n.parts = append(n.parts, r)
			n.Revision = cmp.Or(n.Revision, revision)

		case i == 0 || !errors.Is(err, ErrDenied):
			return nil, err

		case i == 1:
			n.Denied = byOperator(err)
			n.Note = fmt.Sprintf("Live configs under %q are not readable by %s, so %s.",
				s.fullStart(ranges[0].From), s.who, drainUnseen)
		}

		for _, e := range entries {
			byKey[e.Key] = e
		}
	}

	var err error
	n.Within, err = s.namespaceOf(ctx, key)
	if err != nil {
		return nil, err
	}

	if n.Within != "" {
		n.Note = fmt.Sprintf("%q is a namespace with live configs: to read them, give it by --namespace.",
			s.Full(n.Within))
	}

	n.Services = decode(slices.Collect(maps.Values(byKey)))

	var refused []string
	for _, found := range n.Services {
		found.Commands = s.Commands
		found.Denied = n.Denied

		if found.ConfigState() == inventory.Refused && found.InUse() {
			refused = append(refused, s.Full(found.Key))
		}
	}

	if len(refused) > 0 {
		n.Note = strings.TrimSpace(fmt.Sprintf("%s Clients refuse the live config of %s, and running ones keep the last valid one, so %s.",
			n.Note, strings.Join(refused, ", "), drainUnseen))
	}

	return n, nil
}

// scanFirst lists the keys of one range: the first that the user may read.
func (s *Store) scanFirst(
	ctx context.Context,
	ranges []listwatch.Range,
	at int64,
) (r listwatch.Range, entries []inventory.Entry, revision int64, err error) {
	for _, r = range ranges {
		entries, revision, err = s.Scan(ctx, r, at)
		if !errors.Is(err, ErrDenied) {
			break
		}
	}

	return r, entries, revision, err
}

// Follow reads at once, soon after each change, and at intervals. It passes
// each result to deliver until ctx ends.
func (s *Store) Follow(
	ctx context.Context,
	read func(context.Context) (*Snapshot, error),
	deliver func(*Snapshot, error),
) {
	for ctx.Err() == nil {
		began := time.Now()
		n, err := read(ctx)

		if ctx.Err() != nil {
			return
		}

		deliver(n, err)

		every := readEvery
		if err == nil {
			// a prefix may have many keys of other programs, which change often
			every = max(every, min(relist, 20*time.Since(began)))
			s.await(ctx, relist, n.parts, n.Revision)
		} else if !errors.Is(err, ErrDenied) {
			// Opening a watch logs in again: a restored etcd may not answer
			// requests with the old token.
			s.await(ctx, readEvery, []listwatch.Range{{From: "_"}}, 0)
		}

		Pause(ctx, max(settle, every-time.Since(began)))
	}
}

// await waits until one of the ranges changes after a revision, a watch fails,
// or longest is over.
func (s *Store) await(
	ctx context.Context,
	longest time.Duration,
	parts []listwatch.Range,
	revision int64,
) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	var watching sync.WaitGroup
	defer watching.Wait()

	for _, r := range parts {
		watching.Go(func() {
			defer cancel()

			changes := s.watcher.Watch(clientv3.WithRequireLeader(ctx), r.From,
				clientv3.WithRange(r.End), clientv3.WithRev(revision+1),
				clientv3.WithFragment())
			for resp := range changes {
				if len(resp.Events) > 0 {
					cancel()
				}
			}
		})
	}

	<-ctx.Done()
	cancel()
}

// Pause waits for d, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// namespaceOf returns the longest prefix of key that is a namespace with live
// configs, "" if there is none.
func (s *Store) namespaceOf(ctx context.Context, key string) (string, error) {
	for {
		end := strings.LastIndexByte(key, '/')
		if end < 0 {
			return "", nil
		}

		configs := key[:end+1] + inventory.ConfigPrefix
		resp, err := s.kv.Get(ctx, configs,
			clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err != nil {
			err = s.explain(fmt.Sprintf("look for keys under %q", s.fullStart(configs)),
				err)
			if !errors.Is(err, ErrDenied) {
				return "", err
			}
		} else if len(resp.Kvs) > 0 {
			return key[:end+1], nil
		}

		key = key[:end]
	}
}

// Leases returns the remaining time of each lease. It asks for 16 at a time,
// and stops at the first error.
func (s *Store) Leases(
	ctx context.Context,
	ids []int64,
) (map[int64]inventory.LeaseTime, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)

	all := make(map[int64]inventory.LeaseTime, len(ids))
	var mu sync.Mutex // guards all

	for _, id := range ids {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, s.timeout)
			defer cancel()

			resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
			if err != nil {
				return s.explain(fmt.Sprintf("read the time left on lease %x", id), err)
			}

			mu.Lock()
			defer mu.Unlock()

			all[id] = inventory.LeaseTime{Remaining: resp.TTL, Granted: resp.GrantedTTL}

			return nil
		})
	}

	return all, group.Wait()
}

// Alarms reports why etcd refuses writes: its database is full, or the data of
// its members differ.
func (s *Store) Alarms(ctx context.Context) (full, corrupt bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()

	resp, err := s.client.AlarmList(ctx)
	if err != nil {
		return false, false, s.explain("read etcd's alarms", err)
	}

	for _, a := range resp.Alarms {
		full = full || a.Alarm == etcdserverpb.AlarmType_NOSPACE
		corrupt = corrupt || a.Alarm == etcdserverpb.AlarmType_CORRUPT
	}

	return full, corrupt, nil
}

// AddLeases sets the remaining time of the leases of entries.
func (s *Store) AddLeases(ctx context.Context, entries []*inventory.Instance) error {
	leases, err := s.Leases(ctx, inventory.LeaseIDs(entries))
	for _, i := range entries {
		if t, ok := leases[i.Entry.Lease]; ok {
			i.Lease = &t
		}
	}

	return err
}
