package election

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

const (
	// questionTimeout bounds a question to etcd, and askTimeout each read of it.
	questionTimeout = time.Minute
	askTimeout      = 2 * time.Second

	// firstPage is how many entries the first read of a question asks for. A later one asks for as many as make about
	// pageBytes, by the sizes in the one before: an entry that is no candidate may have 1.5 MiB, so no page has many.
	firstPage = 8
	maxPage   = 64
	pageBytes = 512 << 10
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
	from, limit, revision := q.prefix, int64(firstPage), int64(0) // 0: the latest
	for {
		resp, err := q.read(ctx, from, limit, clientv3.WithRev(revision))
		tooLarge := etcderr.Code(err) == codes.ResourceExhausted
		if tooLarge && limit > 1 {
			limit = max(limit/8, 1)
			continue
		}
		if tooLarge { // one entry alone, and so no candidate: its key is where to go on
			resp, err = q.read(ctx, from, limit, clientv3.WithRev(revision), clientv3.WithKeysOnly())
			if err == nil && revision == 0 { // it may be another's by now, even a candidate's: at one revision it is not
				revision = max(resp.Header.GetRevision(), 1) // with 1, where the answer lacks it, nobody is the first
				continue
			}
		}
		if err != nil {
			return First{}, err
		}
		page, bytes := resp.Kvs, 1
		for _, entry := range page {
			bytes += len(entry.Key) + len(entry.Value)
			one := First{Key: string(entry.Key), Created: entry.CreateRevision}
			if _, fault := candidate.InstanceOf(q.prefix, entry); fault == nil && one.Precedes(first) {
				first = one
			}
		}
		if int64(len(page)) < limit {
			return first, nil
		}
		from = string(page[len(page)-1].Key) + "\x00"
		limit = min(max(int64(pageBytes*len(page)/bytes), 1), maxPage)
	}
}

// read reads a page of what is under the prefix.
func (q question) read(ctx context.Context, from string, limit int64, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return q.kv.Get(ctx, from, append(opts, clientv3.WithRange(clientv3.GetPrefixRangeEnd(q.prefix)), clientv3.WithLimit(limit))...)
}

// ask asks who precedes all others, or whether that may be asked at all.
func (q question) ask(ctx context.Context, refused bool) (a answer) {
	if refused {
		_, a.err = q.read(ctx, q.prefix, 1, clientv3.WithKeysOnly())
	} else {
		a.first, a.err = q.first(ctx)
	}
	a.refused = etcderr.Refused(a.err)
	return a
}
