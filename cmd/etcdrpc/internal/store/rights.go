package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// grants returns what the roles of the user allow to be read, below the namespace. Anyone may ask etcd for their own roles.
func (s *Store) grants(ctx context.Context) (all []KeyRange, err error) {
	roles, err := s.Roles(ctx)
	if err != nil {
		return nil, err
	}
	for _, role := range roles {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		resp, err := s.client.RoleGet(ctx, role)
		cancel()
		if err != nil {
			return nil, s.explain(fmt.Sprintf("read the role %q", role), err)
		}
		for _, perm := range resp.Perm {
			from, ok := strings.CutPrefix(string(perm.Key), s.namespace)
			end, okEnd := strings.CutPrefix(string(perm.RangeEnd), s.namespace)
			switch {
			case perm.PermType == clientv3.PermWrite || !ok: // not to be read, or another namespace's
			case len(perm.RangeEnd) == 0:
				all = append(all, KeyOnly(from))
			case !okEnd:
				all = append(all, KeyRange{from, "\x00"})
			default:
				all = append(all, KeyRange{from, end})
			}
		}
	}
	return all, nil
}

// EntriesInParts lists the entries of a service key that the user may read, in any layout. The error is ErrDenied if the user
// may not read what clients list at least.
func (s *Store) EntriesInParts(ctx context.Context, key string) ([]survey.Entry, error) {
	all := EntriesOf(survey.AnyLayout, key)
	entries, listed, err := s.scanEntries(ctx, key)
	if err != nil || s.user() == "" || listed == all {
		return entries, err
	}
	l, err := s.List(ctx, all)
	return survey.InOrder(l.Entries), err
}

// MayServe returns ErrDenied unless the user may write the entries of a service, as the role of its servers may. They have
// no use for its live config.
func (s *Store) MayServe(ctx context.Context, key string) error {
	return s.mayWrite(ctx, EntriesOf(endpoint.Reader{}, key).From+"doctor")
}

// MaySteer returns ErrDenied unless the user may write the live config of a service, as the role of its operators may. They
// have no use for its entries.
func (s *Store) MaySteer(ctx context.Context, key string) error {
	return s.mayWrite(ctx, ConfigOf(key).From)
}

// readable returns the parts of a range that the roles of the user allow to read, as far as they are known, sorted, without
// overlap.
func (s *Store) readable(ctx context.Context, r KeyRange) []KeyRange {
	if s.user() == "" {
		return nil
	}
	grants, err := s.grants(ctx)
	if err != nil {
		return nil
	}
	var parts []KeyRange
	for _, g := range grants {
		if part, ok := r.intersect(g); ok {
			parts = append(parts, part)
		}
	}
	return disjoint(parts)
}

// user returns the name by which etcd knows the user, "" if there is none: that of a password counts before that of a certificate.
func (s *Store) user() string { return cmp.Or(s.User, s.subject) }

// Roles returns the roles of the user.
func (s *Store) Roles(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.client.UserGet(ctx, s.user())
	if err != nil {
		return nil, s.explain(fmt.Sprintf("read the user %q", s.user()), err)
	}
	return resp.Roles, nil
}

// mayWrite returns ErrDenied unless etcd would let the user put a key. Nothing is written: etcd checks the permissions for
// the branch that is not taken, too. An etcd that is full checks none, and refuses all.
func (s *Store) mayWrite(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.kv.Txn(ctx).Else(clientv3.OpPut(key, "")).Commit()
	if err != nil && !errors.Is(err, rpctypes.ErrNoSpace) {
		return s.explain(fmt.Sprintf("write %q", s.Full(key)), err)
	}
	return nil
}
