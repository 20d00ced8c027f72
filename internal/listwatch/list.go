package listwatch

import (
	"cmp"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

const (
	// firstPage is the number of keys in the first page of a list: one page is
	// enough for most services. A later page has about pageBytes, as estimated
	// from the previous one, but at most pageGrowth times as many keys. Smaller
	// pages would cost more: etcd counts the rest of the range for each page.
	//
	// Only MaxCallRecvMsgSize of the etcd client bounds the bytes of a page: an
	// entry may have 1.5 MiB by default, and large entries may follow small
	// ones. A page with more bytes is read in parts.
	firstPage  = 1024
	minPage    = 8 // the fewest keys of a page, after pages that were too slow
	maxPage    = 1 << 16
	pageGrowth = 32
	pageBytes  = 2 << 20
)

// page is a part of a range that one read requests.
type page struct {
	from     string // the first key of the page, "" for the first key of the range
	limit    int64
	revision int64 // 0 for the latest
	local    bool  // one member's own view, without a leader
}

// opts returns the options of a read of the page.
func (p page) opts(r Range) []clientv3.OpOption {
	opts := r.opts(clientv3.WithLimit(p.limit), clientv3.WithRev(p.revision))
	if p.local {
		opts = append(opts, clientv3.WithSerializable())
	}

	return opts
}

// listing is a list in progress: page after page, all at the revision of the
// first page. After a failed page, the list can continue at that page. The zero
// value is a new list.
type listing[T any] struct {
	header *etcdserverpb.ResponseHeader // of the first page, nil before it was read

	total int64 // the number of keys in the range, malformed ones included
	last  int64 // the highest mod revision of the keys read so far

	load *load[T]
	next page
}

// page returns the next page to read.
func (l *listing[T]) page() page {
	l.next.limit = cmp.Or(l.next.limit, firstPage)
	return l.next
}

// add adds a page that etcd has returned, and reports whether there are more.
// An error means that the page came from another etcd than the page before.
func (l *listing[T]) add(resp *clientv3.GetResponse, s *set[T]) (more bool, err error) {
	switch {
	case l.header == nil:
		l.header = resp.Header
		l.load = s.load()
	case resp.Header.GetClusterId() != l.header.GetClusterId():
		return false, errCluster
	case resp.Header.GetRevision() < l.header.GetRevision():
		return false, errReplaced
	}

	n := len(resp.Kvs)
	l.total = max(l.total, resp.Count, int64(n))

	for _, kv := range resp.Kvs {
		l.last = max(l.last, kv.ModRevision)
	}

	l.load.add(resp.Kvs)

	if !resp.More || n == 0 {
		return false, nil
	}

	l.next = page{
		from:     string(resp.Kvs[n-1].Key) + "\x00",
		revision: l.header.GetRevision(),
		limit:    l.following(resp.Kvs),
	}

	return true, nil
}

// following returns the number of keys in the next page, after a page with
// these entries.
func (l *listing[T]) following(kvs []*mvccpb.KeyValue) int64 {
	n := len(kvs)
	bytes := n
	for _, kv := range kvs {
		bytes += len(kv.Key) + len(kv.Value)
	}

	fill := max(int64(pageBytes*n/bytes), 1)

	return min(fill, pageGrowth*l.page().limit, maxPage)
}

// onError handles the error of a page, and makes the next page smaller if that
// may help. again reports whether to read the next page at once. The returned
// error names an entry that is too large. first is the first key of the range.
func (l *listing[T]) onError(err error, first string) (again bool, _ error) {
	limit := l.page().limit
	switch {
	case tooLarge(err) && limit > 1:
		l.next.limit = max(limit/8, 1)
		return true, nil
	case tooLarge(err): // a later revision may not have the entry
		err = fmt.Errorf("%w: the entry at or after %q is too large: "+
			"raise the etcd client's MaxCallRecvMsgSize, or delete the entry",
			err, cmp.Or(l.next.from, first))
		*l = listing[T]{}

	case etcderr.Code(err) == codes.OutOfRange: // compacted since the first page
		*l = listing[T]{}
	case l.header != nil && etcderr.TimedOut(err) && limit > minPage:
		l.next.limit = max(limit/2, minPage)
	}

	return false, err
}

// tooLarge reports whether err is about an answer with more bytes than the
// client accepts.
func tooLarge(err error) bool {
	return etcderr.Code(err) == codes.ResourceExhausted &&
		strings.Contains(err.Error(), "message larger than max")
}
