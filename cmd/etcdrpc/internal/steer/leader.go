package steer

import (
	"context"
	"errors"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
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

// addWhose notes for whom a drain is, and what becomes of the leader of the service if it is drained.
func (e *Edit) addWhose(ctx context.Context, s *store.Store) error {
	all, err := s.Candidates(ctx, e.Key)
	drain, config, find := survey.ListOf(e.shall.Policy().Drain), s.Full(store.ConfigOf(e.Key).From), e.Service.Finder()
	stays := func(c store.Candidate) bool {
		if drain[c.Instance] {
			return false
		}
		i, err := find(c.Instance)
		return err != nil || !drain.Has(i)
	}
	switch {
	case errors.Is(err, store.ErrDenied):
		e.note("Whether one of those leads %s, and so may go on getting calls for the leader, is not known: %s.", e.Key, err)
	case err != nil:
		return err
	case len(all) == 0 || stays(all[0]):
	case slices.ContainsFunc(all, stays):
		e.note("%s leads %s. It resigns, and calls for the leader follow, unless its server may not read %s: then it goes on leading.", all[0].Instance, e.Key, config)
	default:
		e.note("%s leads %s. It goes on leading, and getting the calls for the leader, while no other instance stands that is not drained.", all[0].Instance, e.Key)
	}
	where := "without a namespace"
	if namespace := s.Full(""); namespace != "" {
		where = "in the namespace " + namespace
	}
	e.note("It goes to %s, for the clients of %s %s.", config, e.Key, where)
	return nil
}
