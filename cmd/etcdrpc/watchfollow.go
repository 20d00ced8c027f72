package main

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// watch follows one service.
type watch struct {
	store  *store.Store
	key    string
	show   func(*view) error
	say    func(error)                    // what has gone wrong, and is tried again
	leased func(*view) []*survey.Instance // whose time left is shown
}

// run ends with ctx, with the first look if that fails, and when its output fails. What goes wrong with etcd later is told.
func (w *watch) run(ctx context.Context) (failed error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, trouble := false, ""
	w.store.Follow(ctx, func(ctx context.Context) (*store.Snapshot, error) { return w.store.At(ctx, w.key) }, func(n *store.Snapshot, err error) {
		v := &view{Snapshot: n}
		if err == nil {
			err = w.store.AddLeases(ctx, w.leased(v))
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
			w.say(err)
		}
	})
	return failed
}
