package store

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// NamespaceOf returns the namespace that a key seems to lie in, by the live configs and candidates that are kept there. It
// is "" where nothing tells, as far as the user may read.
func (s *Store) NamespaceOf(ctx context.Context, key string) (string, error) {
	for _, namespace := range survey.Namespaces(key) {
		for _, mark := range survey.NamespaceMarks(namespace) {
			holds, err := s.holds(ctx, mark)
			if err != nil && !errors.Is(err, ErrDenied) {
				return "", err
			}
			if holds {
				return namespace, nil
			}
		}
	}
	return "", nil
}

func (s *Store) holds(ctx context.Context, prefix string) (bool, error) {
	resp, err := s.kv.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil {
		return false, s.explain(fmt.Sprintf("look for keys under %q", s.named(prefix)), err)
	}
	return len(resp.Kvs) > 0, nil
}
