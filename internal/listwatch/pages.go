package listwatch

import (
	"cmp"
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Pages reads a range at one revision, which it returns, and calls each with the entries of page
// after page, sorted by key. Pages are bounded as in a list. An error of each ends it. If etcd
// compacts the revision before the last page, Pages begins again with the first key.
func Pages(ctx context.Context, kv clientv3.KV, r Range, each func([]*mvccpb.KeyValue) error) (revision int64, err error) {
	var l listing[struct{}]
	nothing := &set[struct{}]{
		decode: func(*mvccpb.KeyValue) (v struct{}, ok bool, err error) { return v, false, nil },
	}
	for more := true; more; {
		p := l.page()
		resp, err := kv.Get(ctx, cmp.Or(p.from, r.From), p.opts(r)...)
		if err != nil {
			again, err := l.failed(err, r.From)
			if again || errors.Is(err, rpctypes.ErrCompacted) {
				continue
			}
			return 0, err
		}
		if err := each(resp.Kvs); err != nil {
			return 0, err
		}
		if more, err = l.take(resp, nothing); err != nil {
			return 0, err
		}
	}
	return l.header.GetRevision(), nil
}
