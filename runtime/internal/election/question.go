package election

import (
	"context"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

const (
	// questionTimeout bounds a question to etcd, and askTimeout each read of it.
	questionTimeout = time.Minute
	askTimeout      = 2 * time.Second

	// firstPage is how many keys the first read of a question asks for. A later one asks for as many as make about
	// pageBytes, by those in the one before.
	firstPage = 64
	maxPage   = 10_000
	pageBytes = 512 << 10
)

// question finds out which candidate precedes all others. It reads keys without their values, which may be of any size,
// and the value of what precedes the own candidate alone.
type question struct {
	kv     clientv3.KV
	prefix string
}

// first returns the candidate that precedes all others, the zero value where the own one is not there. Entries that are
// none are skipped: if one becomes a candidate later, no process leads with it, for the name of a candidate is random.
func (q question) first(ctx context.Context, own First) (First, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	first, found := own, false
	for from, limit := q.prefix, int64(firstPage); ; {
		page, err := q.read(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(q.prefix)), clientv3.WithLimit(limit), clientv3.WithKeysOnly())
		if etcderr.Code(err) == codes.ResourceExhausted && limit > 1 {
			limit = max(limit/8, 1) // long keys
			continue
		}
		if err != nil {
			return First{}, err
		}
		bytes := 1
		for _, entry := range page {
			bytes += len(entry.Key)
			one := First{Key: string(entry.Key), Created: entry.CreateRevision}
			found = found || one == own
			if !one.Precedes(first) || candidate.NameFault(q.prefix, entry) != nil {
				continue
			}
			is, err := q.isCandidate(ctx, one)
			if err != nil {
				return First{}, err
			}
			if is {
				first = one
			}
		}
		if int64(len(page)) < limit {
			break
		}
		from = string(page[len(page)-1].Key) + "\x00"
		limit = min(max(int64(pageBytes*len(page)/bytes), 1), maxPage)
	}
	if first == own && !found {
		return First{}, nil
	}
	return first, nil
}

// isCandidate reports whether an entry is a candidate, and still there.
func (q question) isCandidate(ctx context.Context, one First) (bool, error) {
	found, err := q.read(ctx, one.Key)
	if err != nil || len(found) == 0 || found[0].CreateRevision != one.Created {
		return false, err
	}
	_, err = candidate.InstanceOf(q.prefix, found[0])
	return err == nil, nil
}

// mayRead returns an error if the candidates cannot be read.
func (q question) mayRead(ctx context.Context) error {
	_, err := q.read(ctx, q.prefix, clientv3.WithRange(clientv3.GetPrefixRangeEnd(q.prefix)), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	return err
}

func (q question) read(ctx context.Context, key string, opts ...clientv3.OpOption) ([]*mvccpb.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	resp, err := q.kv.Get(ctx, key, opts...)
	if err != nil {
		return nil, err
	}
	return resp.Kvs, nil
}

// ask asks who precedes all others, or whether that may be asked at all.
func (q question) ask(ctx context.Context, own lease.Candidacy, refused bool) (a answer) {
	if refused {
		a.err = q.mayRead(ctx)
	} else {
		a.first, a.err = q.first(ctx, First{Key: own.Key, Created: own.Created})
	}
	a.refused = etcderr.Refused(a.err)
	return a
}
