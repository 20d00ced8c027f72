package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// The rights that a role can grant, as etcdctl spells them.
const (
	rightRead      = "read"
	rightReadWrite = "readwrite"
)

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
