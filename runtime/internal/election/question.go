package election

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

const (
	// questionTimeout bounds a question to etcd, and askTimeout each read of it.
	questionTimeout = time.Minute
	askTimeout      = 2 * time.Second
)

// question finds out which candidate precedes all others.
type question struct {
	kv     clientv3.KV
	prefix string
}

// first returns the candidate that precedes all others, the zero value if there is none. Entries that are none are skipped:
// if one becomes a candidate later, no process leads with it, for the name of a candidate is random. Keys alone would not
// tell: etcd 3.7 leaves the leases out with the values.
func (q question) first(ctx context.Context) (first First, err error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	_, err = listwatch.Pages(ctx, bounded{q.kv}, listwatch.Prefix(q.prefix), func(page []*mvccpb.KeyValue) error {
		for _, entry := range page {
			one := First{Key: string(entry.Key), Created: entry.CreateRevision}
			if _, fault := candidate.InstanceOf(q.prefix, entry); fault == nil && one.Precedes(first) {
				first = one
			}
		}
		return nil
	})
	if err != nil {
		return First{}, err
	}
	return first, nil
}

// ask asks who precedes all others, or whether that may be asked at all.
func (q question) ask(ctx context.Context, refused bool) (a answer) {
	if refused {
		_, a.err = bounded{q.kv}.Get(ctx, q.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	} else {
		a.first, a.err = q.first(ctx)
	}
	a.refused = etcderr.Refused(a.err)
	return a
}

// bounded is a KV each of whose reads is bounded by askTimeout.
type bounded struct{ clientv3.KV }

func (b bounded) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return b.KV.Get(ctx, key, opts...)
}
