package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// SameLease stands for the present lease of a key.
const SameLease = -1

// Put writes a key on a lease, on SameLease, or without a lease if lease is 0.
func (c *Cluster) Put(key, value string, lease int64) error {
	r := &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}
	if lease == SameLease {
		r.Lease = 0
		r.IgnoreLease = true
	}

	return c.change("put "+key, func(a admin) (any, error) { return a.Put(a.root(), r) })
}

// Delete removes a key, if it exists.
func (c *Cluster) Delete(key string) error {
	return c.delete(&pb.DeleteRangeRequest{Key: []byte(key)})
}

// DeletePrefix removes the keys that begin with prefix, in one transaction.
func (c *Cluster) DeletePrefix(prefix string) error {
	return c.delete(&pb.DeleteRangeRequest{
		Key:      []byte(prefix),
		RangeEnd: []byte(clientv3.GetPrefixRangeEnd(prefix)),
	})
}

func (c *Cluster) delete(r *pb.DeleteRangeRequest) error {
	return c.change("delete "+string(r.Key), func(a admin) (any, error) {
		return a.DeleteRange(a.root(), r)
	})
}

// Revoke revokes a lease, which deletes its keys.
func (c *Cluster) Revoke(lease int64) error {
	r := &pb.LeaseRevokeRequest{ID: lease}

	return c.change(fmt.Sprintf("revoke lease %x", lease), func(a admin) (any, error) {
		return a.LeaseRevoke(a.root(), r)
	})
}

// Compact drops the history before the current revision, if there is any.
func (c *Cluster) Compact() error {
	return c.operate("compact", func(a admin) error {
		err := errOf(a.Compact(a.root(), &pb.CompactionRequest{Revision: c.Revision()}))
		return except(err, mvcc.ErrCompacted)
	})
}

// Alarm raises the NOSPACE alarm or clears it.
func (c *Cluster) Alarm(nospace bool) error {
	return c.operate("alarm", func(a admin) error {
		if nospace {
			return errOf(a.noSpace(pb.AlarmRequest_ACTIVATE, uint64(a.MemberID())))
		}

		raised, err := a.noSpace(pb.AlarmRequest_GET, 0)
		if err != nil {
			return err
		}

		for _, alarm := range raised.Alarms {
			err := errOf(a.noSpace(pb.AlarmRequest_DEACTIVATE, alarm.MemberID))
			if err != nil {
				return err
			}
		}

		return nil
	})
}

func (a admin) noSpace(
	action pb.AlarmRequest_AlarmAction,
	member uint64,
) (*pb.AlarmResponse, error) {
	return a.Alarm(a.root(), &pb.AlarmRequest{
		Action:   action,
		MemberID: member,
		Alarm:    pb.AlarmType_NOSPACE,
	})
}

// Leases returns the leases of the member with the highest applied index, even
// if the member has stopped. Between Restore or Wipe and the next Start there
// are none.
func (c *Cluster) Leases() (ids []int64) {
	if p := c.newest(); p != nil {
		for _, l := range (*field[lease.Lessor](p.etcd, "lessor")).Leases() {
			ids = append(ids, int64(l.ID))
		}
	}

	return ids
}

// electTimeout is slightly longer than raft's timeout for a transfer of
// leadership.
const electTimeout = 2 * time.Second

// Elect makes a member the leader. It does nothing if no leader reaches the
// member, or if the member lags too much.
func (c *Cluster) Elect(member int) {
	from := c.leader()
	if from == nil {
		return
	}

	to, _ := c.peer(from.member, func(p *process) bool { return p.member == member })
	if to == nil || to == from {
		return
	}

	ctx, cancel := context.WithTimeout(context.Background(), electTimeout)
	defer cancel()

	old := uint64(from.etcd.MemberID())
	next := uint64(to.etcd.MemberID())
	_ = from.use(ctx, func(ctx context.Context) error { // a transfer may fail
		return from.etcd.MoveLeader(ctx, old, next)
	})
}

// admin makes requests of a server as the user root.
type admin struct {
	*etcdserver.EtcdServer
	ctx context.Context
}

// root returns a context with a new token of the user root. Changes of users
// can end a token, so each request takes its own.
func (a admin) root() context.Context {
	return a.AuthStore().WithRoot(a.ctx)
}

// errOf returns the error of a request whose answer does not matter.
func errOf[T any](_ T, err error) error {
	return err
}

// except returns err, or nil if it is the tolerated error.
func except(err, tolerated error) error {
	if errors.Is(err, tolerated) {
		return nil
	}

	return err
}

// change makes a request that changes keys, and waits until the mirror has the
// change.
func (c *Cluster) change(what string, f func(admin) (any, error)) error {
	return c.operate(what, func(a admin) error {
		answer, err := f(a)
		c.mirror.answered("", answer)

		return err
	})
}

const (
	// operatorTimeout bounds an operator's wait for a quorum.
	operatorTimeout = 10 * time.Second

	// operatorPause is an operator's wait before a retry.
	operatorPause = 50 * time.Millisecond
)

// final holds the errors after which operate does not retry.
var final = []error{
	etcderrors.ErrNoSpace,
	etcderrors.ErrKeyNotFound,
	lease.ErrLeaseNotFound,
}

// operate calls f with the leader and retries after errors, which usually come
// from a missing quorum. A change may be committed twice, since a request that
// timed out may still be committed.
func (c *Cluster) operate(what string, f func(admin) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), operatorTimeout)
	defer cancel()

	for {
		err := etcderrors.ErrNoLeader
		if p := c.leader(); p != nil {
			err = p.use(ctx, func(ctx context.Context) error {
				return f(admin{p.etcd, ctx})
			})
		}

		if err == nil {
			return nil
		}

		isFinal := slices.ContainsFunc(final, func(f error) bool {
			return errors.Is(err, f)
		})
		if isFinal || sleep(ctx, operatorPause) != nil {
			return fmt.Errorf("etcd: %s: %w", what, err)
		}
	}
}
