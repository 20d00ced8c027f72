package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// The rights that a role can grant, as etcdctl spells them.
const (
	rightRead      = "read"
	rightReadWrite = "readwrite"
)

// readGranted adds the services whose live config the user may read, but whose entries were not found: they may be closed
// to the user, as they are to a role that changes live policies.
func (p *patient) readGranted(ctx context.Context, s *store.Store, grants []store.KeyRange) error {
	known := make(map[string]bool)
	for _, service := range p.services {
		service.Closed = !store.Covers(grants, service.Key)
		known[service.Key] = true
	}
	for _, key := range store.GrantedConfigs(grants) {
		if known[key] {
			continue
		}
		config, err := s.Get(ctx, survey.ConfigPrefix+key)
		if err != nil {
			return err
		}
		if config != nil {
			p.services = append(p.services, &survey.Service{Key: key, Config: config, Closed: !store.Covers(grants, key)})
		}
	}
	slices.SortFunc(p.services, func(a, b *survey.Service) int { return compareKeys(a, b.Key) })
	return nil
}

// denied returns the finding for what etcd does not let the user do: what comes of it, and the right that the user lacks.
func denied(ctx context.Context, s *store.Store, r store.KeyRange, right, consequence string, err error) Finding {
	f := Finding{Kind: KindPermission, Where: []string{}, Problem: err.Error() + ", so " + consequence}
	from := strings.Trim(r.From, "\x00")
	if from != "" {
		f.Where = []string{s.Full(from)}
	}
	if s.User == "" {
		f.Fix = "give the credentials of someone who may: --user"
		return f
	}
	role, rolesErr := s.Roles(ctx)
	if rolesErr != nil || len(role) == 0 {
		role = []string{"ROLE"}
	}
	switch {
	case from == "":
		f.Fix = "look as someone who may read all keys, or at a KEY that this user may read"
	case r == store.KeyOnly(r.From):
		f.Fix = fmt.Sprintf("etcdctl role grant-permission %s %s %s", output.Shell(role[0]), right, output.Shell(s.Full(from)))
	default:
		f.Fix = fmt.Sprintf("etcdctl role grant-permission --prefix %s %s %s", output.Shell(role[0]), right, output.Shell(s.Full(from)))
	}
	return f
}
