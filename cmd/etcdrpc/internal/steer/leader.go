package steer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// LeaderNotes says what becomes of the leader of a service if a list of instances to drain names it.
func LeaderNotes(ctx context.Context, s *store.Store, found *survey.Service, drain []string) ([]string, error) {
	all, err := s.Candidates(ctx, found.Key)
	if errors.Is(err, store.ErrDenied) {
		return nil, nil // most services have none, and nobody may read that
	}
	stays := func(c store.Candidate) bool {
		i, err := found.Find(c.Instance)
		return !slices.Contains(drain, c.Instance) && (err != nil || !i.OnList(drain))
	}
	switch {
	case err != nil || len(all) == 0 || stays(all[0]):
		return nil, err
	case !slices.ContainsFunc(all, stays):
		return []string{fmt.Sprintf("%s leads %s. It goes on leading, and getting the calls for the leader, while no other instance stands that is not drained.",
			all[0].Instance, found.Key)}, nil
	}
	return []string{fmt.Sprintf("%s leads %s. It resigns, and calls for the leader follow, unless its server may not read %s: then it goes on leading.",
		all[0].Instance, found.Key, s.Full(store.ConfigOf(found.Key).From))}, nil
}
