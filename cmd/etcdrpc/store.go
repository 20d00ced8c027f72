package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// configPrefix is where the live service configs are.
const configPrefix = endpoint.ReservedSegment + "/"

const (
	// pageSize bounds what one request asks etcd for, in keys.
	pageSize = 1000
	// parallel bounds the requests for leases that are under way at once.
	parallel = 16
)

var (
	errDenied  = errors.New("etcd denies permission")
	errChanged = errors.New("someone else changed it at the same time: look again")
)

// store is etcd, below the namespace: all keys are without it.
type store struct {
	client    *clientv3.Client
	kv        clientv3.KV
	watcher   clientv3.Watcher
	namespace string
	user      string        // "" none was given
	exposed   []string      // hosts that the password is sent to without TLS
	certified bool          // there is a client certificate
	timeout   time.Duration // of one request
}

// entry is one key of etcd.
type entry struct {
	key            string
	value          []byte
	lease          int64
	createRevision int64
	modRevision    int64
}

func entryOf(kv *mvccpb.KeyValue) entry {
	return entry{string(kv.Key), kv.Value, kv.Lease, kv.CreateRevision, kv.ModRevision}
}

// name returns what the key ends in.
func (e entry) name() string { return lastSegment(e.key) }

func lastSegment(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }

// keyRange is the keys from from up to end, which does not belong to it.
type keyRange struct{ from, end string }

var everything = keyRange{"\x00", "\x00"}

// prefixRange is all keys that begin with prefix.
func prefixRange(prefix string) keyRange {
	if prefix == "" {
		return everything
	}
	return keyRange{prefix, clientv3.GetPrefixRangeEnd(prefix)}
}

func open(ctx context.Context, settings settings) (*store, error) {
	cfg, err := settings.config(ctx)
	if err != nil {
		return nil, err
	}
	s := &store{
		namespace: settings.namespace, user: cfg.Username, certified: settings.certFile != "",
		timeout: settings.commandTimeout, exposed: exposedTo(cfg),
	}
	if len(s.exposed) > 0 && settings.warnings != nil {
		sayf(settings.warnings, "etcdrpc: warning: the password of %s is sent without TLS to %s\n", s.user, strings.Join(s.exposed, ", "))
	}
	s.client, err = clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	s.kv = namespace.NewKV(s.client.KV, s.namespace)
	s.watcher = namespace.NewWatcher(s.client.Watcher, s.namespace)
	return s, nil
}

func (s *store) close() { s.client.Close() }

// full is a key as etcd has it.
func (s *store) full(key string) string { return s.namespace + key }

// who is whom etcd takes us for.
func (s *store) who() string {
	switch {
	case s.user != "":
		return fmt.Sprintf("the user %q", s.user)
	case s.certified:
		return "the user that --cert names"
	}
	return "nobody, for no --user was given"
}

// explain says of a failed request what it was for and what may help.
func (s *store) explain(doing string, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty):
		return fmt.Errorf("%s: %w to %s", doing, errDenied, s.who())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: etcd at %s did not answer within %v: check --endpoints, and --cacert where it speaks TLS",
			doing, strings.Join(s.client.Endpoints(), ","), s.timeout)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// scan lists a range as it was at one moment.
func (s *store) scan(ctx context.Context, r keyRange) (entries []entry, revision int64, err error) {
	from := r.from
	for {
		resp, err := s.page(ctx, keyRange{from, r.end}, revision)
		if err != nil {
			return nil, 0, s.explain(fmt.Sprintf("list the keys under %q", s.full(strings.Trim(r.from, "\x00"))), err)
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			entries = append(entries, entryOf(kv))
		}
		if !resp.More {
			return entries, revision, nil
		}
		from = entries[len(entries)-1].key + "\x00"
	}
}

func (s *store) page(ctx context.Context, r keyRange, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.kv.Get(ctx, r.from, clientv3.WithRange(r.end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
}

// scanReadable lists what the user may read of a range: all of it or, where that is denied, the
// parts that the user's roles allow, which it returns as well.
func (s *store) scanReadable(ctx context.Context, r keyRange) (entries []entry, parts []keyRange, err error) {
	entries, _, err = s.scan(ctx, r)
	if !errors.Is(err, errDenied) || s.user == "" {
		return entries, nil, err
	}
	allowed, rolesErr := s.readable(ctx, r)
	if rolesErr != nil || len(allowed) == 0 {
		return nil, nil, err
	}
	for _, part := range allowed {
		more, _, err := s.scan(ctx, part)
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, more...)
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return slices.CompactFunc(entries, func(a, b entry) bool { return a.key == b.key }), allowed, nil
}

// readable is the parts of a range that the roles of the user allow to read.
func (s *store) readable(ctx context.Context, r keyRange) ([]keyRange, error) {
	grants, err := s.grants(ctx)
	if err != nil {
		return nil, err
	}
	var parts []keyRange
	for _, g := range grants {
		if part, ok := r.intersect(g.keyRange); ok && g.end != "" {
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// roles are those of the user.
func (s *store) roles(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.client.UserGet(ctx, s.user)
	if err != nil {
		return nil, err
	}
	return resp.Roles, nil
}

// intersect is what r and o have in common.
func (r keyRange) intersect(o keyRange) (keyRange, bool) {
	both := keyRange{max(r.from, o.from), r.end}
	if r.end == "\x00" || o.end != "\x00" && o.end < r.end {
		both.end = o.end
	}
	return both, both.end == "\x00" || both.from < both.end
}

// String is a range as etcdctl's users know it: a prefix where it is one.
func (r keyRange) String() string {
	if prefixRange(strings.Trim(r.from, "\x00")) == r {
		return strings.Trim(r.from, "\x00") + "*"
	}
	return fmt.Sprintf("[%s, %s)", r.from, strings.Trim(r.end, "\x00"))
}

// entriesOf lists what may be an entry of a service key, in any layout, or lies below it.
func (s *store) entriesOf(ctx context.Context, key string) (entries []entry, r keyRange, revision int64, err error) {
	from, end := anyLayout.Range(key)
	r = keyRange{from, end}
	entries, revision, err = s.scan(ctx, r)
	if errors.Is(err, errDenied) {
		// A role may well be for "key/" only.
		r.from, r.end = endpoint.Reader{}.Range(key)
		entries, revision, err = s.scan(ctx, r)
	}
	return entries, r, revision, err
}

// get returns one key; nil, where it is not there.
func (s *store) get(ctx context.Context, key string) (*entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.kv.Get(ctx, key)
	if err != nil {
		return nil, s.explain(fmt.Sprintf("read %q", s.full(key)), err)
	}
	if len(resp.Kvs) == 0 {
		return nil, nil
	}
	found := entryOf(resp.Kvs[0])
	return &found, nil
}

// replace puts value at a key, or deletes the key for "", unless the key has changed since it was
// found as old; nil: it was not there. Then the error is errChanged.
func (s *store) replace(ctx context.Context, key string, old *entry, value string) (revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	found := int64(0)
	if old != nil {
		found = old.modRevision
	}
	op := clientv3.OpDelete(key)
	if value != "" {
		op = clientv3.OpPut(key, value)
	}
	resp, err := s.kv.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", found)).Then(op).Commit()
	if err != nil {
		return 0, s.explain(fmt.Sprintf("write %q", s.full(key)), err)
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("write %q: %w", s.full(key), errChanged)
	}
	return resp.Header.Revision, nil
}

// mayWrite reports whether etcd would let the user put a key. Nothing is written: etcd checks the
// permissions for the branch that is not taken, too.
func (s *store) mayWrite(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.kv.Txn(ctx).Else(clientv3.OpPut(key, "")).Commit()
	if err != nil {
		return s.explain(fmt.Sprintf("write %q", s.full(key)), err)
	}
	return nil
}

// leaseTime is what is left of a lease, and what it was granted with, in seconds.
type leaseTime struct{ left, granted int64 }

// expired tells that etcd knows the lease no more.
func (t leaseTime) expired() bool { return t.left < 0 }

// leases asks for the time left on each lease.
func (s *store) leases(ctx context.Context, ids []int64) (map[int64]leaseTime, error) {
	var (
		mu   sync.Mutex
		errs []error
		left = make(map[int64]leaseTime, len(ids))
	)
	each(len(ids), parallel, func(n int) {
		t, err := s.lease(ctx, ids[n])
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, err)
			return
		}
		left[ids[n]] = t
	})
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return left, nil
}

func (s *store) lease(ctx context.Context, id int64) (leaseTime, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return leaseTime{}, s.explain(fmt.Sprintf("ask for the time left on lease %x", id), err)
	}
	return leaseTime{left: resp.TTL, granted: resp.GrantedTTL}, nil
}

// follow tells of every change in a range after a revision, until it cannot any more.
func (s *store) follow(ctx context.Context, r keyRange, revision int64, changed func()) error {
	return s.followEvents(ctx, r, revision, func([]*clientv3.Event) { changed() })
}

// followEvents tells what changes in a range after a revision, until it cannot any more.
func (s *store) followEvents(ctx context.Context, r keyRange, revision int64, changed func([]*clientv3.Event)) error {
	return s.replay(clientv3.WithRequireLeader(ctx), r, revision, func(resp clientv3.WatchResponse) error {
		changed(resp.Events)
		return nil
	})
}

// compactedError is the first revision that etcd has not forgotten, where a watch asked for an earlier one.
type compactedError int64

func (compactedError) Error() string { return rpctypes.ErrCompacted.Error() }

// replay hands over what has happened in a range after a revision, and what happens on, until it cannot any more or told
// returns an error.
func (s *store) replay(ctx context.Context, r keyRange, revision int64, told func(clientv3.WatchResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range s.watcher.Watch(ctx, r.from, clientv3.WithRange(r.end), clientv3.WithRev(revision+1)) {
		if err := resp.Err(); err != nil {
			if resp.CompactRevision > 0 {
				err = compactedError(resp.CompactRevision)
			}
			return s.explain(fmt.Sprintf("watch %q", s.full(r.from)), err)
		}
		if err := told(resp); err != nil {
			return err
		}
	}
	return ctx.Err()
}
