package fleet

import (
	"context"
	"errors"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
)

// Propose is part of console.Backend.
func (f *Fleet) Propose(ctx context.Context, asked steer.Asked) (*steer.Edit, error) {
	e, err := steer.Propose(ctx, f.store, asked)
	if errors.As(err, new(steer.DoneError)) {
		return e, nil // the button was pressed twice
	}
	return e, err
}

// Apply is part of console.Backend.
func (f *Fleet) Apply(ctx context.Context, e *steer.Edit) error {
	err := e.Apply(ctx, f.store)
	if err == nil {
		f.awaitRevision(ctx, e.Written)
	}
	return err
}
