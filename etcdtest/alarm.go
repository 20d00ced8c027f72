package etcdtest

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// SetNoSpace raises or disarms the NOSPACE alarm, which etcd raises when a database has reached its quota. While
// it is raised, etcd refuses puts and new leases, and takes reads, deletions and renewals.
func (c *Cluster) SetNoSpace(ctx context.Context, raised bool) error {
	action := pb.AlarmRequest_DEACTIVATE
	if raised {
		action = pb.AlarmRequest_ACTIVATE
	}
	leader, err := c.Leader(ctx)
	if err != nil {
		return err
	}
	etcd := leader.running()
	if etcd == nil {
		return errors.New("etcdtest: the leader was stopped before it could raise an alarm")
	}
	_, err = etcd.Server.Alarm(ctx, &pb.AlarmRequest{
		Action: action, Alarm: pb.AlarmType_NOSPACE, MemberID: uint64(etcd.Server.MemberID()),
	})
	if err != nil {
		return fmt.Errorf("etcdtest: change the NOSPACE alarm: %w", err)
	}
	return nil
}
