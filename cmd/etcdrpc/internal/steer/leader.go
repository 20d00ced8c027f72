package steer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// AddLeader says which instance has the calls for the leader of the service.
func (x *Explanation) AddLeader(ctx context.Context, s *store.Store) error {
	all, err := s.Candidates(ctx, x.Key)
	if errors.Is(err, store.ErrDenied) { // most services have none
		return nil
	}
	if len(all) > 0 {
		x.Leader = all[0].Instance
		x.note("%s leads %s: it has the calls for the leader, whatever the shares.", x.Leader, x.Key)
	}
	return err
}

// leaderNote says what becomes of the leader of a service that the list to drain comes to name; "": none does.
func (e *Edit) leaderNote(ctx context.Context, s *store.Store) (string, error) {
	all, err := s.Candidates(ctx, e.Key)
	if errors.Is(err, store.ErrDenied) {
		return fmt.Sprintf("Whether one of those leads %s, and so may go on getting calls for the leader, is not known: %s.", e.Key, err), nil
	}
	drain := e.shall.Policy().Drain
	stays := func(c store.Candidate) bool {
		i, err := e.Service.Find(c.Instance)
		return !slices.Contains(drain, c.Instance) && (err != nil || !i.OnList(drain))
	}
	switch {
	case err != nil || len(all) == 0 || stays(all[0]):
		return "", err
	case !slices.ContainsFunc(all, stays):
		return fmt.Sprintf("%s leads %s. It goes on leading, and getting the calls for the leader, while no other instance stands that is not drained.", all[0].Instance, e.Key), nil
	}
	return fmt.Sprintf("%s leads %s. It resigns, and calls for the leader follow, unless its server may not read %s: then it goes on leading.",
		all[0].Instance, e.Key, s.Full(store.ConfigOf(e.Key).From)), nil
}
