package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

// Backup is a snapshot of etcd's database.
type Backup []byte

// Backup takes a snapshot from the member with the highest applied index, from
// the member's disk if the member is stopped.
func (c *Cluster) Backup() (Backup, error) {
	defer c.lockChanges()()

	p := c.newest()

	switch {
	case p == nil:
		return nil, errors.New(
			"etcd: backup: no member was started since the data was replaced")
	case !p.runs():
		return os.ReadFile(c.database(p.member))
	}

	var db bytes.Buffer
	s := p.etcd.Backend().Snapshot()
	_, err := s.WriteTo(&db)

	return db.Bytes(), errors.Join(err, s.Close())
}

func (c *Cluster) database(member int) string {
	return filepath.Join(c.dataDir(member), "member", "snap", "db")
}

// Restore replaces the data of all members with a backup, as "etcdutl snapshot
// restore" does. asNew changes the cluster token, and with it the ids of the
// cluster and its members. Revisions go back and the raft term starts from 1. A
// bump above 0 is added to the revision, and all earlier revisions are
// compacted, as with "--bump-revision" and "--mark-compacted".
//
// Restore stops running members. The caller must start them again. The observer
// of OnCommit is not called.
func (c *Cluster) Restore(b Backup, asNew bool, bump uint64) error {
	c.stopAll()

	defer c.lockChanges()()

	if asNew {
		c.token += "-restored"
	}

	file := filepath.Join(c.dir, "backup")
	if err := errors.Join(os.WriteFile(file, b, 0o600), c.removeData()); err != nil {
		return err
	}

	for i := range c.members {
		err := snapshot.NewV3(logger).Restore(snapshot.RestoreConfig{
			SnapshotPath:        file,
			SkipHashCheck:       true,
			OutputDataDir:       c.dataDir(i),
			Name:                name(i),
			PeerURLs:            []string{peerURL(i)},
			InitialCluster:      c.initialCluster(),
			InitialClusterToken: c.token,
			RevisionBump:        bump,
			MarkCompacted:       bump > 0,
		})
		if err != nil {
			return fmt.Errorf("etcd: restore: %w", err)
		}
	}

	return c.mirror.load(c.database(0))
}

// Wipe removes the data of all members. The cluster and its members keep their
// ids. Wipe stops running members. The caller must start them again. The
// observer of OnCommit is not called.
func (c *Cluster) Wipe() error {
	c.stopAll()

	defer c.lockChanges()()

	c.mirror.reset(nil, firstRevision)

	return c.removeData()
}

// removeData removes the data of all members, and forgets processes and users.
// All members must be stopped, under lockChanges.
func (c *Cluster) removeData() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	clear(c.users)

	var errs []error
	for i := range c.members {
		c.members[i].process = nil
		errs = append(errs, os.RemoveAll(c.dataDir(i)))
	}

	return errors.Join(errs...)
}

// load fills the mirror from a database.
func (m *mirror) load(path string) error {
	db := backend.NewDefaultBackend(logger, path)
	kv := mvcc.NewStore(logger, db, &lease.FakeLessor{}, mvcc.StoreConfig{})

	r, err := kv.Range(context.Background(), allKeys, allKeysEnd, mvcc.RangeOptions{})
	if err == nil {
		var entries []Entry
		for _, kv := range r.KVs {
			entries = append(entries, entryOf(kv))
		}

		m.reset(entries, kv.Rev())
	}

	return errors.Join(err, kv.Close(), db.Close())
}
