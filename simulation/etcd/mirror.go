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
)

// Entry is a key with its value, its lease and the revision that created the
// key.
type Entry struct {
	Key, Value    string
	Lease, Create int64
}

func entryOf(kv *mvccpb.KeyValue) Entry {
	return Entry{string(kv.Key), string(kv.Value), kv.Lease, kv.CreateRevision}
}

// Change is a put or a delete that was committed.
type Change struct {
	At time.Time

	// host of the client that made the change, set before its answer; "" if
	// there is none, and for revoked leases
	Client string

	Key, Value      string
	Lease, Revision int64 // Lease is set for puts only
	Delete          bool
}

// firstRevision is the revision of an empty etcd.
const firstRevision = 1

// The range of all keys, in the form of the key-value store.
var (
	allKeys    = []byte{0}
	allKeysEnd = []byte{}
)

// mirror is a copy of the committed keys, which is current even while members
// lag or are down. The first member that applies a revision adds it to the
// mirror. Members send answers and events of a revision only after the observer
// of OnCommit has seen it, see await.
type mirror struct {
	mu       sync.Mutex
	advanced sync.Cond
	revision int64
	entries  []Entry             // by key
	changes  map[int64][]*Change // by revision, since the data was replaced
	observer func(*Change)
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

	return slices.Clone(Under(c.mirror.entries, prefix))
}

// Under returns the part of sorted entries whose keys begin with prefix.
func Under(entries []Entry, prefix string) []Entry {
	from, _ := search(entries, prefix)

	to := from
	for to < len(entries) && strings.HasPrefix(entries[to].Key, prefix) {
		to++
	}

	return entries[from:to]
}

// OnCommit sets the function that is called for each change, in the order of
// revisions, at the instant when the first member applies it. f must not call
// the cluster, nor read Client.
func (c *Cluster) OnCommit(f func(*Change)) {
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()

	c.mirror.observer = f
}

// reset replaces the contents of the mirror.
func (m *mirror) reset(entries []Entry, revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.entries = entries
	m.revision = revision
	m.changes = map[int64][]*Change{}
}

// watch returns a stream of all changes that the mirror does not have yet. It
// must be called before the server of kv starts.
func (m *mirror) watch(kv mvcc.WatchableKV) mvcc.WatchStream {
	m.mu.Lock()
	defer m.mu.Unlock()

	s := kv.NewWatchStream()

	// Watch fails for an empty range, a second watch of an id, or a closed
	// stream. None of these can happen here.
	_, err := s.Watch(context.Background(), clientv3.AutoWatchID, allKeys, allKeysEnd,
		m.revision+1)
	if err != nil {
		panic(fmt.Sprintf("etcd: watch all keys: %v", err))
	}

	return s
}

// take applies the changes that no other member has reported yet.
func (m *mirror) take(r mvcc.WatchResponse) {
	if r.CompactRevision != 0 {
		panic(fmt.Sprintf(
			"etcd: the mirror missed changes, which were compacted at revision %d",
			r.CompactRevision))
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

// commit applies the changes of one revision.
func (m *mirror) commit(revision int64, events []*mvccpb.Event) {
	m.revision = revision

	for _, e := range events {
		c := &Change{
			At:       time.Now(),
			Key:      string(e.Kv.Key),
			Value:    string(e.Kv.Value),
			Lease:    e.Kv.Lease,
			Revision: revision,
			Delete:   e.Type == mvccpb.Event_DELETE,
		}

		at, found := search(m.entries, c.Key)
		if found {
			m.entries = slices.Delete(m.entries, at, at+1)
		}

		if !c.Delete {
			m.entries = slices.Insert(m.entries, at, entryOf(e.Kv))
		}

		m.changes[revision] = append(m.changes[revision], c)
		m.observer(c)
	}
}

// search returns the index of a key in sorted entries, and whether they have
// the key.
func search(entries []Entry, key string) (int, bool) {
	return slices.BinarySearchFunc(entries, key, func(e Entry, key string) int {
		return cmp.Compare(e.Key, key)
	})
}

// await waits until the mirror has a revision that a member has applied. This
// takes no virtual time.
func (m *mirror) await(revision int64) {
	m.mu.Lock()
	defer m.mu.Unlock()

	for m.revision < revision {
		m.advanced.Wait()
	}
}

// answered waits until the observer has seen the revision of an answer, and
// records which client made the changes of that revision. If a request was
// carried out but failed, its changes have no client.
func (m *mirror) answered(client string, answer any) {
	a, ok := answer.(interface{ GetHeader() *pb.ResponseHeader })
	if !ok {
		return
	}

	revision := a.GetHeader().GetRevision()
	m.await(revision)

	if !changed(answer) {
		return
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	for _, c := range m.changes[revision] {
		c.Client = client
	}
}

// changed reports whether the answered request changed keys.
func changed(answer any) bool {
	switch a := answer.(type) {
	case *pb.PutResponse:
		return true
	case *pb.DeleteRangeResponse:
		return a.GetDeleted() > 0

	case *pb.TxnResponse:
		return slices.ContainsFunc(a.GetResponses(), func(op *pb.ResponseOp) bool {
			return op.GetResponsePut() != nil ||
				op.GetResponseDeleteRange().GetDeleted() > 0
		})
	}

	return false
}
