package etcdtest

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// SetNoSpace raises or disarms the NOSPACE alarm, which etcd raises when a database has reached its
// quota. While it is raised, etcd rejects puts and new leases, and accepts reads, deletions and
// renewals. SetNoSpace raises the alarm in the leader's name, and disarms it in every member's.
func (c *Cluster) SetNoSpace(ctx context.Context, raised bool) error {
	leader, err := c.Leader(ctx)
	if err != nil {
		return err
	}
	etcd := leader.running()
	if etcd == nil {
		return errors.New("etcdtest: the leader was stopped before it could change an alarm")
	}
	action, names := pb.AlarmRequest_ACTIVATE, []uint64{uint64(etcd.Server.MemberID())}
	if !raised {
		list, err := etcd.Server.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_GET, Alarm: pb.AlarmType_NOSPACE})
		if err != nil {
			return fmt.Errorf("etcdtest: list the NOSPACE alarms: %w", err)
		}
		action, names = pb.AlarmRequest_DEACTIVATE, nil
		for _, alarm := range list.Alarms {
			names = append(names, alarm.MemberID)
		}
	}
	for _, name := range names {
		if _, err := etcd.Server.Alarm(ctx, &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE, MemberID: name}); err != nil {
			return fmt.Errorf("etcdtest: change the NOSPACE alarm: %w", err)
		}
	}
	return nil
}
