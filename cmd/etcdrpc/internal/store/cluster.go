package store

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// Cluster is the state of etcd itself, as far as the user may see it.
type Cluster struct {
	Members   []Member
	Alarms    []string // such as "NOSPACE"
	Addresses []Address
	Open      bool // authentication is off, though there are users, or --user was given
}

// Member is a member of etcd.
type Member struct {
	Name    string // "": it was never started
	ID      string
	Learner bool     // it does not vote
	URLs    []string // where clients reach it
}

// Address is where etcd is asked.
type Address struct {
	At          string
	Err         error // why it does not answer
	Size, Quota int64 // of its database, in bytes; 0: not known
}

// Cluster looks at etcd itself.
func (s *Store) Cluster(ctx context.Context) (*Cluster, error) {
	c := new(Cluster)
	for _, look := range []func(context.Context, *Cluster) error{s.lookAtMembers, s.lookAtAlarms, s.lookAtAuth} {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		err := look(ctx, c)
		cancel()
		if err != nil && !isClosed(err) {
			return nil, s.explain("look at etcd itself", err)
		}
	}
	c.Addresses = make([]Address, len(s.endpoints))
	parallel.Each(len(s.endpoints), atOnce, func(n int) { c.Addresses[n] = s.address(ctx, s.endpoints[n]) })
	return c, ctx.Err()
}

// isClosed reports whether an error says that the user may not see something, or that what answers for etcd does not have it.
func isClosed(err error) bool {
	return etcderr.Refused(err) || errors.Is(err, rpctypes.ErrPermissionDenied) || etcderr.Code(err) == codes.Unimplemented
}

func (s *Store) lookAtMembers(ctx context.Context, c *Cluster) error {
	resp, err := s.client.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range resp.Members {
		c.Members = append(c.Members, Member{m.Name, fmt.Sprintf("%x", m.ID), m.IsLearner, m.ClientURLs})
	}
	return nil
}

func (s *Store) lookAtAlarms(ctx context.Context, c *Cluster) error {
	resp, err := s.client.AlarmList(ctx)
	if err != nil {
		return err
	}
	for _, alarm := range resp.Alarms {
		c.Alarms = append(c.Alarms, alarm.Alarm.String())
	}
	return nil
}

func (s *Store) lookAtAuth(ctx context.Context, c *Cluster) error {
	status, err := s.client.AuthStatus(ctx)
	if err != nil || status.Enabled {
		return err
	}
	users, err := s.client.UserList(ctx)
	c.Open = err == nil && (s.User != "" || len(users.Users) > 0)
	return err
}

func (s *Store) address(ctx context.Context, at string) Address {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	status, err := s.client.Status(ctx, at)
	switch {
	case err == nil:
		return Address{At: at, Size: status.DbSize, Quota: status.DbSizeQuota}
	case isClosed(err) || ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Address{At: at}
	}
	if down, ok := errors.AsType[downError](err); ok {
		err = down.error
	}
	return Address{At: at, Err: err}
}
