package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// Backup is a copy of a cluster's data: keys, leases, users and the revision.
type Backup struct {
	cluster *Cluster
	dir     string
}

// Backup copies the data of every member, for [Cluster.RestoreBackup]. It stops
// the members, and then starts all of them.
func (c *Cluster) Backup() (*Backup, error) {
	dir, err := os.MkdirTemp(c.dir, "backup")
	if err != nil {
		return nil, fmt.Errorf("etcdtest: make a directory for a backup: %w", err)
	}

	b := &Backup{cluster: c, dir: dir}
	save := func(m *Member) error { return copyData(b.of(m), m.dir) }

	return b, c.restartAfter(save, nil)
}

// RestoreBackup restarts every member on the data of a backup of this cluster.
// Addresses and members stay the same. The revision is the backup's, although
// clients may have seen higher revisions. Leases have their full TTL again. A
// backup can be restored many times. With [WithAuth], earlier clients become
// unusable: see [Cluster.Wipe].
func (c *Cluster) RestoreBackup(b *Backup) error {
	if b.cluster != c {
		return fmt.Errorf(
			"etcdtest: the backup in %s is of another cluster: want one of this cluster",
			b.dir)
	}

	load := func(m *Member) error {
		if err := m.wipe(); err != nil {
			return err
		}

		return copyData(m.dir, b.of(m))
	}

	return c.restartAfter(load, c.replaceAdmin)
}

// of returns the directory with the copy of a member's data.
func (b *Backup) of(m *Member) string {
	return filepath.Join(b.dir, m.name())
}

// copyData copies the data directory of a stopped member. It removes the files
// that etcd preallocates, which are large.
func copyData(dst, src string) error {
	preallocated, err := filepath.Glob(filepath.Join(src, "member", "wal", "*.tmp"))
	for _, file := range preallocated {
		err = errors.Join(err, os.Remove(file))
	}

	err = errors.Join(err, os.MkdirAll(dst, fileutil.PrivateDirMode),
		os.CopyFS(dst, os.DirFS(src)))
	if err != nil {
		return fmt.Errorf("etcdtest: copy %s to %s: %w", src, dst, err)
	}

	return nil
}

// SetNoSpace raises the NOSPACE alarm for the leader, or disarms it for every
// member. etcd raises the alarm when a database has reached its quota. During
// the alarm etcd rejects puts and new leases, and accepts reads, deletions and
// renewals.
func (c *Cluster) SetNoSpace(ctx context.Context, raised bool) error {
	leader, err := c.Leader(ctx)
	if err != nil {
		return err
	}

	etcd := leader.running()
	if etcd == nil {
		return errors.New(
			"etcdtest: the leader was stopped before it changed the NOSPACE alarm")
	}

	action := pb.AlarmRequest_ACTIVATE
	names := []uint64{uint64(etcd.Server.MemberID())}

	if !raised {
		list, err := etcd.Server.Alarm(ctx, &pb.AlarmRequest{
			Action: pb.AlarmRequest_GET,
			Alarm:  pb.AlarmType_NOSPACE,
		})
		if err != nil {
			return fmt.Errorf("etcdtest: list the NOSPACE alarms: %w", err)
		}

		action = pb.AlarmRequest_DEACTIVATE
		names = nil

		for _, alarm := range list.Alarms {
			names = append(names, alarm.MemberID)
		}
	}

	for _, name := range names {
		_, err := etcd.Server.Alarm(ctx, &pb.AlarmRequest{
			Action:   action,
			Alarm:    pb.AlarmType_NOSPACE,
			MemberID: name,
		})
		if err != nil {
			return fmt.Errorf("etcdtest: change the NOSPACE alarm: %w", err)
		}
	}

	return nil
}
