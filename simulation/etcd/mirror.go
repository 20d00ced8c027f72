package etcd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Entry is a key with its value, its lease and the revision that created the key.
type Entry struct {
	Key, Value    string
	Lease, Create int64
}

func entryOf(kv *mvccpb.KeyValue) Entry {
	return Entry{string(kv.Key), string(kv.Value), kv.Lease, kv.CreateRevision}
}

// Change is a put or a delete that was committed.
type Change struct {
	At              time.Time
	Client          string // host of the requesting client; "" for an operator, an expiry, or if several clients are possible
	Key, Value      string
	Lease, Revision int64 // Lease is set for puts only
	Delete          bool
}

// firstRevision is the revision of an empty etcd.
const firstRevision = 1

// allKeys and allKeysEnd are the range of all keys, as the key-value store wants it.
var allKeys, allKeysEnd = []byte{0}, []byte{}

// mirror is a copy of the committed keys, which is current even while members lag or are down. The first member that applies a
// revision adds it to the mirror. Members send answers and events of a revision only after the observer of OnCommit has seen it, see await.
type mirror struct {
	mu       sync.Mutex
	advanced sync.Cond
	revision int64
	entries  []Entry    // by key
	requests []*request // requests that may still change keys, see author
	observer func(Change)
}

func newMirror() *mirror {
	m := &mirror{revision: firstRevision, observer: func(Change) {}}
	m.advanced.L = &m.mu
	return m
}

// Revision returns the last committed revision.
func (c *Cluster) Revision() int64 {
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()
	return c.mirror.revision
}

// Entries returns the keys that begin with prefix, sorted.
func (c *Cluster) Entries(prefix string) []Entry {
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()
	from, _ := c.mirror.search(prefix)
	to := from
	for to < len(c.mirror.entries) && strings.HasPrefix(c.mirror.entries[to].Key, prefix) {
		to++
	}
	return slices.Clone(c.mirror.entries[from:to])
}

// OnCommit sets the function that is called for each change, in the order of revisions, at the instant when the first member applies
// it. f must not call the cluster.
func (c *Cluster) OnCommit(f func(Change)) {
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()
	c.mirror.observer = f
}

// reset replaces the contents of the mirror.
func (m *mirror) reset(entries []Entry, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries, m.revision = entries, revision
}

// watch returns a stream of all changes that the mirror does not have yet. The server of kv must not have started.
func (m *mirror) watch(kv mvcc.WatchableKV) mvcc.WatchStream {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := kv.NewWatchStream()
	// Watch fails for an empty range, a second watch of an id, or a closed stream. None of these can happen here.
	if _, err := s.Watch(context.Background(), clientv3.AutoWatchID, allKeys, allKeysEnd, m.revision+1); err != nil {
		panic(fmt.Sprintf("etcd: watch all keys: %v", err))
	}
	return s
}

// take applies the changes that no other member has reported yet.
func (m *mirror) take(r mvcc.WatchResponse) {
	if r.CompactRevision != 0 {
		panic(fmt.Sprintf("etcd: the mirror missed changes, which were compacted at revision %d", r.CompactRevision))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for from, to := 0, 0; from < len(r.Events); from = to {
		revision := r.Events[from].Kv.ModRevision
		for to < len(r.Events) && r.Events[to].Kv.ModRevision == revision {
			to++
		}
		if revision > m.revision {
			m.commit(revision, r.Events[from:to])
		}
	}
	m.advanced.Broadcast()
}

// commit applies the changes of one revision, which come from one request.
func (m *mirror) commit(revision int64, events []*mvccpb.Event) {
	var changes []Change
	for _, e := range events {
		deleted := e.Type == mvccpb.Event_DELETE
		changes = append(changes, Change{time.Now(), "", string(e.Kv.Key), string(e.Kv.Value), e.Kv.Lease, revision, deleted})
	}
	client := m.author(changes)
	m.revision = revision
	for i, c := range changes {
		at, found := m.search(c.Key)
		if found {
			m.entries = slices.Delete(m.entries, at, at+1)
		}
		if !c.Delete {
			m.entries = slices.Insert(m.entries, at, entryOf(events[i].Kv))
		}
	}
	for _, c := range changes {
		c.Client = client
		m.observer(c)
	}
}

// search returns the index of a key, and whether the mirror has the key.
func (m *mirror) search(key string) (int, bool) {
	return slices.BinarySearchFunc(m.entries, key, func(e Entry, key string) int { return cmp.Compare(e.Key, key) })
}

// await waits until the mirror has a revision that a member has applied. This takes no virtual time.
func (m *mirror) await(revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.revision < revision {
		m.advanced.Wait()
	}
}

// etcd does not report the client of a change, so the mirror finds a request under way with the same key and value.

// request holds the changes of a client's or an operator's request.
type request struct {
	client string
	ops    []*pb.RequestOp
	lease  int64     // the lease to revoke, or 0
	until  time.Time // when the request is removed; zero while it is under way
}

// proposalTimeout bounds the time in which a failed request may still be committed, from the log of a member without a quorum.
const proposalTimeout = 30 * time.Second

// undecided holds the codes of failed requests that may still be committed.
var undecided = []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown}

// follow makes a client's request, or an operator's if client is "". It returns after the observer has seen the revision.
func (m *mirror) follow(client string, message any, ask func() (any, error)) (any, error) {
	r := &request{client: client, ops: opsOf(message)}
	if revoke, ok := message.(*pb.LeaseRevokeRequest); ok {
		r.lease = revoke.ID
	}
	m.mu.Lock()
	m.requests = append(m.requests, r)
	m.mu.Unlock()
	answer, err := ask()
	if a, ok := answer.(interface{ GetHeader() *pb.ResponseHeader }); ok && err == nil {
		m.await(a.GetHeader().GetRevision())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(undecided, status.Code(err)) {
		r.until = time.Now().Add(proposalTimeout)
	} else {
		m.forget(r)
	}
	return answer, err
}

// author returns the client whose request made the changes of a revision, or "" if no request or several
// may have made them. It must be called before the changes are applied, with m.mu held.
func (m *mirror) author(changes []Change) string {
	var may []*request
	for _, r := range slices.Clone(m.requests) {
		switch {
		case !r.until.IsZero() && time.Now().After(r.until):
			m.forget(r)
		case !slices.ContainsFunc(changes, func(c Change) bool { return !m.asksFor(r, c) }):
			may = append(may, r)
		}
	}
	if len(may) == 0 || slices.ContainsFunc(may, func(r *request) bool { return r.client != may[0].client }) {
		return ""
	}
	m.forget(may[0]) // a request is committed once
	return may[0].client
}

func (m *mirror) forget(r *request) {
	m.requests = slices.DeleteFunc(m.requests, func(other *request) bool { return other == r })
}

// asksFor reports whether a change may result from a request.
func (m *mirror) asksFor(r *request, c Change) bool {
	if i, found := m.search(c.Key); found && c.Delete && r.lease != 0 && r.lease == m.entries[i].Lease {
		return true
	}
	return slices.ContainsFunc(r.ops, func(op *pb.RequestOp) bool {
		put, del := op.GetRequestPut(), op.GetRequestDeleteRange()
		if c.Delete {
			return del != nil && (c.Key == string(del.Key) || c.Key > string(del.Key) && c.Key < string(del.RangeEnd))
		}
		return put != nil && c.Key == string(put.Key) &&
			(put.IgnoreValue || c.Value == string(put.Value)) && (put.IgnoreLease || c.Lease == put.Lease)
	})
}

// opsOf returns the operations on keys that a message asks for.
func opsOf(message any) []*pb.RequestOp {
	switch m := message.(type) {
	case *pb.RangeRequest:
		return []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: m}}}
	case *pb.PutRequest:
		return []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: m}}}
	case *pb.DeleteRangeRequest:
		return []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: m}}}
	case *pb.TxnRequest:
		return slices.Concat(m.Success, m.Failure)
	}
	return nil
}
