package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// model imitates the part of etcd that a session uses. The integration module
// has the tests on real etcd.
type model struct {
	rev    int64
	kvs    map[string]KeyValue
	leases map[clientv3.LeaseID]time.Time // when each expires
	ids    clientv3.LeaseID

	// faults
	down bool // nothing is answered

	silent     bool                      // no renewal is answered
	busy       bool                      // reads and writes are refused as too many requests
	failing    bool                      // every write fails
	full       bool                      // the NOSPACE alarm
	limit      int                       // the maximum number of operations in a transaction
	large      bool                      // every write counts as too large
	proxied    bool                      // a write of more than one key is too large for a proxy
	twice      bool                      // a proxy makes each write twice
	unreadable map[string]bool           // the keys that may not be read
	unwritable map[string]bool           // the keys that may not be written
	poisoned   map[clientv3.LeaseID]bool // the leases with a key that may not be written
}

func newModel() *model {
	return &model{
		rev:        100,
		kvs:        make(map[string]KeyValue),
		leases:     make(map[clientv3.LeaseID]time.Time),
		limit:      maxOps,
		unreadable: make(map[string]bool),
		unwritable: make(map[string]bool),
		poisoned:   make(map[clientv3.LeaseID]bool),
	}
}

func (m *model) clone() *model {
	c := *m
	c.kvs = maps.Clone(m.kvs)
	c.leases = maps.Clone(m.leases)

	return &c
}

// restore restores an earlier state, in which each lease has its whole TTL
// again.
func (m *model) restore(now time.Time, past *model) {
	m.rev = past.rev
	m.kvs = maps.Clone(past.kvs)
	m.leases = maps.Clone(past.leases)

	for id := range m.leases {
		m.leases[id] = now.Add(ttl)
	}
}

func (m *model) put(key, value string, lease clientv3.LeaseID) {
	m.rev++
	m.kvs[key] = KeyValue{value, lease, m.rev}

	if lease == theirs {
		m.leases[lease] = time.Time{}
	}
}

func (m *model) remove(key string) {
	if _, ok := m.kvs[key]; ok {
		m.rev++
		delete(m.kvs, key)
	}
}

func (m *model) revoke(id clientv3.LeaseID) {
	delete(m.leases, id)

	for key, kv := range m.kvs {
		if kv.Lease == id {
			m.remove(key)
		}
	}
}

func (m *model) expire(now time.Time) {
	for id, at := range m.leases {
		if id != theirs && now.After(at) {
			m.revoke(id)
		}
	}
}

// renew makes the renewals of the leases of a session that are due.
func (m *model) renew(now time.Time, c *Core) {
	due, _ := c.Renewals(now)
	for id := range due {
		_, found := m.leases[id]
		switch {
		case m.silent || m.down: // no answer
		case found:
			m.leases[id] = now.Add(ttl)
			c.OnRenewal(now, id, ttl, m.rev)
		default:
			c.OnRenewalFailed(now, id, rpctypes.ErrLeaseNotFound)
		}
	}
}

// get returns the value of a key, nil if it is absent.
func (m *model) get(key string) *KeyValue {
	kv, ok := m.kvs[key]
	if !ok {
		return nil
	}

	return &kv
}

// write applies the transaction of steps, as etcd does.
func (m *model) write(steps []step) (made bool, kvs []*KeyValue, err error) {
	if m.busy {
		return false, nil, rpctypes.ErrTooManyRequests
	}

	if m.failing {
		return false, nil, status.Error(codes.Unavailable, "no")
	}

	if m.large {
		return false, nil, rpctypes.ErrRequestTooLarge
	}

	if len(steps) > m.limit {
		return false, nil, rpctypes.ErrTooManyOps
	}

	if m.proxied && len(steps) > 1 {
		return false, nil, status.Error(codes.Unknown, "413")
	}

	made = true
	for _, st := range steps {
		puts := st.kind != remove
		if m.unwritable[st.r.key] || m.unreadable[st.r.key] || puts && m.poisoned[st.lease] {
			return false, nil, rpctypes.ErrPermissionDenied
		}

		if puts && m.full {
			return false, nil, rpctypes.ErrNoSpace
		}

		kvs = append(kvs, m.get(st.r.key))
		made = made && m.kvs[st.r.key].Rev == st.rev
	}

	if !made {
		return false, kvs, nil
	}

	for _, st := range steps {
		if _, ok := m.leases[st.lease]; !ok && st.kind != remove && st.lease != 0 {
			return false, nil, rpctypes.ErrLeaseNotFound
		}
	}

	m.rev++
	for _, st := range steps {
		if st.kind == remove {
			delete(m.kvs, st.r.key)
		} else {
			m.kvs[st.r.key] = KeyValue{st.value, st.lease, m.rev}
		}
	}

	return true, nil, nil
}

// fate is the outcome of a call.
type fate int

const (
	answered   fate = iota
	lost            // the call never arrives, and times out
	unanswered      // the call is applied, and times out
	delayed         // the call times out, and may arrive later
)

// do applies a call.
func (m *model) do(o Op, now time.Time) (a Answer) {
	switch o := o.(type) {
	case GrantOp:
		if m.full {
			return Answer{Err: rpctypes.ErrNoSpace}
		}

		m.ids++
		a.Lease = m.ids
		a.TTL = ttl
		m.leases[m.ids] = now.Add(ttl)

	case RevokeOp:
		if m.poisoned[o.Lease] {
			return Answer{Err: rpctypes.ErrPermissionDenied}
		}

		if _, ok := m.leases[o.Lease]; !ok {
			return Answer{Err: rpctypes.ErrLeaseNotFound}
		}

		m.revoke(o.Lease)

	case readOp:
		a.KVs, a.Err = m.read(o.steps, o.compare)
	case AttachedOp:
		if m.poisoned[o.Lease] {
			return Answer{Err: rpctypes.ErrPermissionDenied}
		}

		for key, kv := range m.kvs {
			if kv.Lease == o.Lease {
				a.Keys = append(a.Keys, key)

				if m.unreadable[key] {
					a.Err = rpctypes.ErrPermissionDenied
				}
			}
		}

		slices.Sort(a.Keys)

	case writeOp:
		if m.twice {
			_, _, _ = m.write(o.steps)
		}

		a.Made, a.KVs, a.Err = m.write(o.steps)
	}

	a.Revision = m.rev

	return a
}

func (m *model) read(steps []step, compare bool) ([]*KeyValue, error) {
	if m.busy {
		return nil, rpctypes.ErrTooManyRequests
	}

	same := compare
	var kvs []*KeyValue
	for _, st := range steps {
		if m.unreadable[st.r.key] {
			return nil, rpctypes.ErrPermissionDenied
		}

		same = same && st.rev == m.kvs[st.r.key].Rev
		kvs = append(kvs, m.get(st.r.key))
	}

	if len(steps) > m.limit {
		return nil, rpctypes.ErrTooManyOps
	}

	if same {
		return nil, nil
	}

	return kvs, nil
}

const (
	ttl          = 15 * time.Second
	closeTimeout = 5 * time.Second // of the session
	theirs       = 99              // the lease of another process, which does not expire
)

// describe returns a call in the form of TestCalls' rows.
func describe(o Op) string {
	var words []string

	switch o := o.(type) {
	case GrantOp:
		return "grant"
	case RevokeOp:
		return fmt.Sprint("revoke ", o.Lease)
	case AttachedOp:
		return fmt.Sprint("attached ", o.Lease)

	case readOp:
		words = append(words, map[bool]string{true: "check", false: "read"}[o.compare])
		for _, st := range o.steps {
			words = append(words, st.r.key)
		}

	case writeOp:
		last := kind(-1)
		for _, st := range o.steps {
			if st.kind != last {
				words = append(words, st.kind.String())
				last = st.kind
			}

			words = append(words, st.r.key)
		}
	}

	return strings.Join(words, " ")
}

// nobody owns the entries of tests.
type nobody struct{}

func (nobody) Changed() {}

// item returns the items of an entry with one key, which has room for a mark.
func item(key, value string) []Item {
	return []Item{{
		Key:     func(clientv3.LeaseID) string { return key },
		Value:   value,
		Leaving: value + "!",
	}}
}
