package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// The rights that a role can grant, as etcdctl spells them.
const (
	rightRead      = "read"
	rightReadWrite = "readwrite"
)

// grant is a range of keys that a role of the user allows to be read. The end of one key alone is "".
type grant struct{ keyRange }

// grants returns what the roles of the user allow to be read, below the namespace. Anyone may ask etcd for their own roles.
func (s *store) grants(ctx context.Context) (all []grant, err error) {
	roles, err := s.roles(ctx)
	if err != nil {
		return nil, err
	}
	for _, role := range roles {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		resp, err := s.client.RoleGet(ctx, role)
		cancel()
		if err != nil {
			return nil, err
		}
		for _, perm := range resp.Perm {
			from, ok := strings.CutPrefix(string(perm.Key), s.namespace)
			end, okEnd := strings.CutPrefix(string(perm.RangeEnd), s.namespace)
			switch {
			case perm.PermType == clientv3.PermWrite || !ok:
				continue // not to be read, or another namespace's
			case !okEnd && len(perm.RangeEnd) > 0:
				end = "\x00"
			}
			all = append(all, grant{keyRange{from, end}})
		}
	}
	return all, nil
}

// grantedConfigs returns the services whose live configs the roles of the user allow to be read one by one.
func grantedConfigs(grants []grant) (keys []string) {
	for _, g := range grants {
		if key, ok := strings.CutPrefix(g.from, configPrefix); ok && g.end == "" && key != "" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// covers reports whether the entries of a service key may be listed, as far as one of the grants says.
func covers(grants []grant, key string) bool {
	from, end := endpoint.Reader{}.Range(key)
	return slices.ContainsFunc(grants, func(g grant) bool { return g.end != "" && g.contains(keyRange{from, end}) })
}

// readGranted adds the services whose live config the user may read, but whose entries were not found: they may be closed
// to the user, as they are to a role that changes live policies.
func (p *patient) readGranted(ctx context.Context, s *store, grants []grant) error {
	known := make(map[string]bool)
	for _, service := range p.services {
		service.closed = !covers(grants, service.key)
		known[service.key] = true
	}
	for _, key := range grantedConfigs(grants) {
		if known[key] {
			continue
		}
		config, err := s.get(ctx, configPrefix+key)
		if err != nil {
			return err
		}
		if config != nil {
			p.services = append(p.services, &service{key: key, config: config, closed: !covers(grants, key)})
		}
	}
	slices.SortFunc(p.services, func(a, b *service) int { return strings.Compare(a.key, b.key) })
	return nil
}

// entriesInParts lists the entries of a service key that the user may read, in any layout. The error is errDenied if the user
// may not read what clients list at least.
func (s *store) entriesInParts(ctx context.Context, key string) ([]entry, error) {
	entries, _, _, err := s.entriesOf(ctx, key)
	if err != nil || s.user == "" {
		return entries, err
	}
	from, end := anyLayout.Range(key)
	entries, _, err = s.scanReadable(ctx, keyRange{from, end})
	return entries, err
}

// mayServe reports whether the user may write the entries of a service, as the role of its servers may. They have no use
// for its live config.
func (s *store) mayServe(ctx context.Context, key string) (bool, error) {
	from, _ := endpoint.Reader{}.Range(key)
	return allowed(s.mayWrite(ctx, from+"doctor"))
}

// maySteer reports whether the user may write the live config of a service, as the role of its operators may. They have no
// use for its entries.
func (s *store) maySteer(ctx context.Context, key string) (bool, error) {
	return allowed(s.mayWrite(ctx, configPrefix+key))
}

func allowed(err error) (bool, error) {
	if errors.Is(err, errDenied) {
		return false, nil
	}
	return err == nil, err
}

// denied is what etcd does not let the user do, what comes of it, and the right that the user lacks.
func denied(ctx context.Context, s *store, r keyRange, right, consequence string, err error) finding {
	f := finding{Kind: kindPermission, Where: []string{}, Problem: err.Error() + ", so " + consequence}
	from := strings.Trim(r.from, "\x00")
	if from != "" {
		f.Where = []string{s.full(from)}
	}
	if s.user == "" {
		f.Fix = "give the credentials of someone who may: --user"
		return f
	}
	role, rolesErr := s.roles(ctx)
	if rolesErr != nil || len(role) == 0 {
		role = []string{"ROLE"}
	}
	switch {
	case from == "":
		f.Fix = "look as someone who may read all keys, or at a KEY that this user may read"
	case r.end == "":
		f.Fix = fmt.Sprintf("etcdctl role grant-permission %s %s %s", shell(role[0]), right, shell(s.full(from)))
	default:
		f.Fix = fmt.Sprintf("etcdctl role grant-permission --prefix %s %s %s", shell(role[0]), right, shell(s.full(from)))
	}
	return f
}
