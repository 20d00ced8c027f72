// Package listwatch keeps ranges of etcd keys in memory, decoded and current:
// it lists a range once, follows it by a watch, and lists it again whenever the
// watch can no longer be trusted. It does not know what the values mean.
//
//	core.go     the core of a range: decides, event by event, what to ask and when to publish
//	replica.go  part of the core: the known content of the range, and whether etcd's answers fit that content
//	list.go     part of the core: a list, page by page
//	set.go      part of the core: the entries of the range, and how many of them are kept
//	group.go    the ranges that are followed, and the shell of each core: a goroutine
//
// The ranges of an etcd client share one conversation with etcd:
//
//	queue.go         its core: which ranges the next request reads
//	conversation.go  its shell: makes the requests, and passes the answers to the ranges
//	streams.go       the gRPC stream of the watches
//
// The cores do no I/O, start no goroutine and read no clock.
package listwatch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Range is a range of etcd keys: from From up to, but not including, End. An
// empty End means the single key From.
type Range struct{ From, End string }

// Prefix returns the range of the keys that begin with a prefix, which may be
// "".
func Prefix(prefix string) Range {
	return Range{cmp.Or(prefix, "\x00"), clientv3.GetPrefixRangeEnd(prefix)}
}

func (r Range) opts(more ...clientv3.OpOption) []clientv3.OpOption {
	if r.End != "" {
		more = append(more, clientv3.WithRange(r.End))
	}

	return more
}

// Decode turns an entry into a value. ok is false for a key that does not
// belong to the range; err means that the value is malformed: it is reported
// once and skipped.
type Decode[T any] func(entry *mvccpb.KeyValue) (v T, ok bool, err error)

// Item is one decoded entry. It is immutable.
type Item[T any] struct {
	Key            string
	Value          T
	Lease          int64
	CreateRevision int64

	// the revision since which the entry has had this value and this lease
	ModRevision int64
}

// Snapshot is the content of a range at a revision. It is immutable, except for
// the slice Items. While an item does not change, all snapshots have the same
// pointer to it.
type Snapshot[T any] struct {
	// sorted by key; may be read until the sink has returned from the next
	// update
	Items []*Item[T]

	// the items removed since the previous snapshot, each with its last value
	Removed []*Item[T]

	Revision    int64
	Provisional bool // may be behind etcd: it was read from a member without a leader
	Truncated   bool // entries were left out because they exceed the bounds
}

// Update reports a change of a range, or of the reason why it cannot be
// followed.
type Update[T any] struct {
	Snapshot *Snapshot[T] // the last known content; nil if none is known
	Err      error        // why the range cannot be followed now; nil if it can
}

// Client is the part of *clientv3.Client that this package uses. A
// *clientv3.Client embeds interfaces, which users may have wrapped. Its methods
// call the wrapped ones.
type Client interface {
	Get(
		ctx context.Context,
		key string,
		opts ...clientv3.OpOption,
	) (*clientv3.GetResponse, error)
	Txn(ctx context.Context) clientv3.Txn
	Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan
}

// Config is the configuration that the ranges of a group share.
type Config[T any] struct {
	Conversation *Conversation // that of the etcd client, which all its groups share

	// Equal reports whether the new value of an entry equals the old value,
	// which is then kept. If nil, values are compared by ==.
	Equal func(a, b T) bool

	// Size returns the approximate memory of a value in bytes. It may be nil
	// without Bounds.
	Size func(T) int

	Bounds Bounds
	Logger *slog.Logger
	Hooks  Hooks

	// MaxRefusedPause bounds the pause before a refused list is repeated: a
	// refusal usually lasts until someone changes the configuration. The first
	// pause is a tenth of it.
	MaxRefusedPause time.Duration
}

// Hooks count events. A hook must not block, and may be nil.
type Hooks struct {
	Relisted  func(cause string) // a range had to be listed again
	Malformed func()             // a value was skipped
}

// Pages reads a range at one revision, and returns that revision. It calls
// yield with the entries of each page, sorted by key. The pages have the sizes
// of a list's pages. An error of yield ends the read. If etcd compacts the
// revision before the last page, Pages begins again with the first key.
func Pages(
	ctx context.Context,
	kv clientv3.KV,
	r Range,
	yield func([]*mvccpb.KeyValue) error,
) (revision int64, err error) {
	var l listing[struct{}]

	nothing := &set[struct{}]{
		decode: func(*mvccpb.KeyValue) (v struct{}, ok bool, err error) { return },
	}

	for more := true; more; {
		p := l.page()
		resp, err := kv.Get(ctx, cmp.Or(p.from, r.From), p.opts(r)...)
		if err != nil {
			again, err := l.onError(err, r.From)
			if again || errors.Is(err, rpctypes.ErrCompacted) {
				continue
			}

			return 0, err
		}

		if err := yield(resp.Kvs); err != nil {
			return 0, err
		}

		more, err = l.add(resp, nothing)
		if err != nil {
			return 0, err
		}
	}

	return l.header.GetRevision(), nil
}
