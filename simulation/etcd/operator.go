package etcd

import (
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// SameLease stands for the lease that a key is on already.
const SameLease = -1

// Put writes a key at once, on a lease, on none if it is 0, or on SameLease.
func (c *Cluster) Put(key, value string, lease int64) error {
	r := &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}
	if lease == SameLease {
		r.Lease, r.IgnoreLease = 0, true
	}
	err := c.operate(func(time.Time) error {
		_, err := c.state.put(requester{root: true}, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("etcd: put %s: %w", key, err)
	}
	return nil
}

// Delete removes a key at once, and reports whether it was there.
func (c *Cluster) Delete(key string) bool {
	return c.delete(&pb.DeleteRangeRequest{Key: []byte(key)}) > 0
}

// DeletePrefix removes the keys that begin with prefix at once, in one transaction, and returns how many they were.
func (c *Cluster) DeletePrefix(prefix string) int {
	sp := prefixSpan(prefix)
	return c.delete(&pb.DeleteRangeRequest{Key: []byte(sp.from), RangeEnd: []byte(sp.to)})
}

func (c *Cluster) delete(r *pb.DeleteRangeRequest) (n int) {
	err := c.operate(func(time.Time) error {
		resp, err := c.state.deleteRange(requester{root: true}, r)
		n = int(resp.GetDeleted())
		return err
	})
	if err != nil {
		panic("etcd: the operator may not delete: " + err.Error())
	}
	return n
}

// Grant grants a lease at once and returns its id.
func (c *Cluster) Grant(ttl time.Duration) (id int64) {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	c.state.nextID++
	l, err := c.state.lessor.grant(now, c.state.nextID, int64(ttl/time.Second))
	if err != nil {
		panic("etcd: the operator's lease is refused: " + err.Error())
	}
	c.committed(now)
	return l.id
}

// Revoke ends a lease at once, with its keys.
func (c *Cluster) Revoke(lease int64) error {
	err := c.operate(func(time.Time) error {
		_, err := c.state.revoke(requester{root: true}, lease, false)
		return err
	})
	if err != nil {
		return fmt.Errorf("etcd: revoke lease %x: %w", lease, err)
	}
	return nil
}

// Compact drops the history before the present revision.
func (c *Cluster) Compact() {
	_ = c.operate(func(time.Time) error { // there may be nothing to drop
		_, err := c.state.compact(c.state.store.rev)
		return err
	})
}

// operate carries out f on the committed state.
func (c *Cluster) operate(f func(now time.Time) error) error {
	c.mu.Lock()
	defer c.unlock()
	now := time.Now()
	err := f(now)
	c.committed(now)
	return err
}
