package main

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// watch follows a service.
type watch struct {
	store     *store.Store
	key       string
	show      func(*view) error
	warn      func(error)                       // reports an error that is retried
	withLease func(*view) []*inventory.Instance // returns the entries whose lease is read
}

// run follows the service until ctx ends, the first read fails or the output fails. Later errors of etcd are reported.
func (w *watch) run(ctx context.Context) (failed error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, trouble := false, ""
	w.store.Follow(ctx, func(ctx context.Context) (*store.Snapshot, error) { return w.store.At(ctx, w.key) }, func(n *store.Snapshot, err error) {
		v := &view{Snapshot: n}
		if err == nil {
			err = w.store.AddLeases(ctx, w.withLease(v))
		}
		switch {
		case err == nil:
			seen, trouble = true, ""
			if failed = w.show(v); failed != nil {
				cancel()
			}
		case !seen:
			failed = err
			cancel()
		case err.Error() != trouble && ctx.Err() == nil:
			trouble = err.Error()
			w.warn(err)
		}
	})
	return failed
}
