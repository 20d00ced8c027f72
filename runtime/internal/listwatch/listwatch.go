// Package listwatch keeps ranges of etcd keys in memory, decoded and current: it lists a range
// once, follows it by a watch, and lists it again whenever the watch can no longer be trusted. It
// knows etcd and nothing of what the values mean.
//
//	set.go      the entries of one range
//	machine.go  what etcd's answers do to them: the transitions, without I/O or timers
//	watcher.go  the goroutine that asks etcd, one a range
//	cache.go    who shares which watcher, and for how long
package listwatch

import (
	"context"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Range is a range of etcd keys: from From up to, but not including, End. An empty End means the
// single key From.
type Range struct{ From, End string }

func (r Range) opts(more ...clientv3.OpOption) []clientv3.OpOption {
	if r.End != "" {
		more = append(more, clientv3.WithRange(r.End))
	}
	return more
}

// Decode turns an entry into a value. ok is false for a key that is none of the range's business;
// err tells that a value is malformed: it is reported once, and skipped.
type Decode[T any] func(key string, value []byte, lease int64) (v T, ok bool, err error)

// Item is one decoded entry. It is immutable.
type Item[T any] struct {
	Key            string
	Value          T
	CreateRevision int64
}

// Snapshot is what a range held at a revision. It is immutable and shared: its items keep their
// identity from one snapshot to the next for as long as they do not change.
type Snapshot[T any] struct {
	Items    []*Item[T] // sorted by key
	Revision int64
	// Provisional says that the snapshot may be behind etcd: it was read from a member without a
	// leader, or remembered from an earlier watch.
	Provisional bool
}

// Update is news of a range.
type Update[T any] struct {
	Snapshot *Snapshot[T] // the last known; nil while nothing is known
	Err      error        // what keeps the range from being followed now; nil while it is
}

// Client is the part of *clientv3.Client that is used here. Calls go through its embedded
// interfaces, so that a wrapper that the caller put there is honoured.
type Client interface {
	Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error)
	Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan
	RequestProgress(ctx context.Context) error
}

// Config is what the watchers of a cache have in common.
type Config[T any] struct {
	Client Client
	// Equal tells whether a new value says the same as the old one, which is then kept.
	Equal  func(a, b T) bool
	Logger *slog.Logger
	// Hooks count what happens. Each may be nil.
	Hooks Hooks
	// Linger is how long a range is still followed after its last user left.
	Linger time.Duration
}

// Hooks are told of what is worth counting. They must not block.
type Hooks struct {
	Relisted  func(cause string) // a range had to be listed again
	Malformed func(key string)   // a value was skipped
}
