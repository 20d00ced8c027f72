package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// NamespaceOf returns the namespace that a key seems to lie in, by the live configs and candidates that are kept there: its own,
// where it has a live config by the whole key. It is "" where nothing tells, as far as the user may read.
func (s *Store) NamespaceOf(ctx context.Context, key string) (string, error) {
	found, err := s.firstIn(ctx, key, func(namespace string) (all []KeyRange) {
		for _, mark := range survey.NamespaceMarks(namespace) {
			all = append(all, PrefixRange(mark))
		}
		return all
	})
	if err != nil || found == "" {
		return "", err
	}
	if own, err := s.holds(ctx, ConfigOf(key)); err != nil || !own {
		return found, err
	}
	return s.firstIn(ctx, key, func(namespace string) []KeyRange {
		its := strings.TrimPrefix(key, namespace)
		return []KeyRange{KeyOnly(namespace + survey.ConfigPrefix + its), PrefixRange(namespace + servicekey.LeaderPrefix(its))}
	})
}

// firstIn returns the longest namespace that a key may lie in with a key in one of its ranges, "" for none.
func (s *Store) firstIn(ctx context.Context, key string, of func(namespace string) []KeyRange) (string, error) {
	for _, namespace := range survey.Namespaces(key) {
		for _, r := range of(namespace) {
			if holds, err := s.holds(ctx, r); err != nil || holds {
				return namespace, err
			}
		}
	}
	return "", nil
}

// holds reports whether a range has a key, as far as the user may read.
func (s *Store) holds(ctx context.Context, r KeyRange) (bool, error) {
	resp, err := s.kv.Get(ctx, r.From, clientv3.WithRange(r.End), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil {
		if err = s.explain(fmt.Sprintf("look for keys under %q", s.named(r.From)), err); errors.Is(err, ErrDenied) {
			return false, nil
		}
		return false, err
	}
	return len(resp.Kvs) > 0, nil
}
