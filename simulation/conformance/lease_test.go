package conformance

import (
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// tick is how often etcd looks for expired leases.
const tick = 500 * time.Millisecond

// late is how much later than that a busy machine may see it. The model has no excuse: its time is virtual.
const late = 2 * time.Second

// TestExpiry has leases expire: after their TTL and within a tick, a lease at one revision, in the order of keys, and
// without one where there are no keys.
func TestExpiry(t *testing.T) { onBoth(t, 1, expire) }

func expire(t *testing.T, c *cluster) {
	s := c.dial(0)
	all := s.watchAll()
	begun := time.Now()
	first, second, empty := s.grant(2), s.grant(2), s.grant(2)
	s.put("a/2", first)
	s.put("b", second)
	s.put("a/1", first)
	s.put("a/3", first)
	revision := s.put("kept", 0)
	all.awaitDeletes(4)
	c.within("the expiry", time.Since(begun), 2*time.Second, tick)
	time.Sleep(tick + 100*time.Millisecond) // the empty lease may be the last
	for _, lease := range []int64{first, second, empty} {
		if left := s.left(lease); left != -1 {
			t.Errorf("an expired lease has %d s left", left)
		}
		if ttl := s.renewed(lease); ttl != 0 {
			t.Errorf("an expired lease is renewed for %d s", ttl)
		}
	}
	if now := s.put("kept", 0); now != revision+3 {
		t.Errorf("at revision %d, want %d: one for each lease with keys and one for the put", now, revision+3)
	}
	byRevision := map[int64][]string{}
	for _, event := range all.take().deletes() {
		byRevision[event.Kv.ModRevision] = append(byRevision[event.Kv.ModRevision], string(event.Kv.Key))
	}
	for _, keys := range byRevision {
		if want := []string{"a/1", "a/2", "a/3"}; !slices.Equal(keys, want) && !slices.Equal(keys, []string{"b"}) {
			t.Errorf("%q were deleted at one revision", keys)
		}
	}
}

// TestKeepAlive renews a lease and then does not.
func TestKeepAlive(t *testing.T) { onBoth(t, 1, keepAlive) }

func keepAlive(t *testing.T, c *cluster) {
	s := c.dial(0)
	all := s.watchAll()
	renewed := time.Now()
	lease := s.grant(3)
	s.put("a", lease)
	for range 2 {
		time.Sleep(1700 * time.Millisecond)
		since := time.Since(renewed)
		renewed = time.Now()
		ttl, left := s.renewed(lease), s.left(lease)
		if c.late > 0 && time.Since(renewed)+since > 2900*time.Millisecond {
			t.Skip("the machine is too busy to renew a lease in time")
		}
		if ttl != 3 || left != 2 && left != 3 {
			t.Errorf("renewed for %d s, want 3; %d s left, want 2 to 3", ttl, left)
		}
	}
	all.awaitDeletes(1)
	c.within("the expiry after the last renewal", time.Since(renewed), 3*time.Second, tick)
}

// TestExpiredNotRevoked asks about a lease that has expired and that etcd may not have looked at yet: it is not renewed.
func TestExpiredNotRevoked(t *testing.T) { onBoth(t, 1, expiredNotRevoked) }

func expiredNotRevoked(t *testing.T, c *cluster) {
	for _, after := range []time.Duration{10 * time.Millisecond, 250 * time.Millisecond} {
		s := c.dial(0)
		lease := s.grant(2)
		s.put("a", lease)
		time.Sleep(2*time.Second + after)
		if left := s.left(lease); left > 0 {
			t.Errorf("%v after its end a lease has %d s left", after, left)
		}
		if ttl := s.renewed(lease); ttl != 0 {
			t.Errorf("%v after its end a lease is renewed for %d s", after, ttl)
		}
		if left := s.left(lease); left != -1 {
			t.Errorf("once its renewal is refused a lease has %d s left", left)
		}
	}
}

// TestLeasesAfterRestart restarts a member: leases start their TTL anew, and an election more.
func TestLeasesAfterRestart(t *testing.T) { onBoth(t, 1, leasesAfterRestart) }

func leasesAfterRestart(t *testing.T, c *cluster) {
	s := c.dial(0)
	lease := s.grant(3)
	s.put("a", lease)
	time.Sleep(2 * time.Second)
	begun := time.Now()
	c.restart(0)
	leases := s.leases
	s = c.dial(0)
	s.leases = leases
	if left := s.left(lease); left < 2 {
		t.Errorf("%d s left after the restart, want about 3", left)
	}
	for s.left(lease) >= 0 {
		time.Sleep(20 * time.Millisecond)
	}
	c.within("the expiry after the restart", time.Since(begun), 3*time.Second+c.election, tick+20*time.Millisecond)
}

// TestLeasesAfterElection has another member lead: leases start their TTL anew, and an election more.
func TestLeasesAfterElection(t *testing.T) { onBoth(t, 3, leasesAfterElection) }

func leasesAfterElection(_ *testing.T, c *cluster) {
	s := c.dial(c.follower())
	all := c.lasting(s).watchAll()
	const ttl = 5 // leaves a busy machine time to elect before the lease expires
	lease := s.grant(ttl)
	s.put("a", lease)
	time.Sleep(2 * time.Second)
	begun := time.Now()
	c.elect()
	all.awaitDeletes(1)
	c.within("the expiry after the election", time.Since(begun), ttl*time.Second+c.election, tick)
}

// watchAll watches all keys.
func (s *side) watchAll() *stream {
	all := s.open()
	all.ask(watchFor(&pb.WatchCreateRequest{Key: []byte("\x00"), RangeEnd: []byte("\x00")}))
	return all
}

// deletes are the deletions that came to the first watch.
func (c content) deletes() (events []*mvccpb.Event) {
	for _, m := range c.events[0] {
		if event := m.(*mvccpb.Event); event.Type == mvccpb.Event_DELETE {
			events = append(events, event)
		}
	}
	return events
}

func (st *stream) awaitDeletes(n int) {
	st.side.t.Helper()
	st.await("deletions", func() bool { return len(st.deletes()) >= n })
}

// grant returns the number of a new lease.
func (s *side) grant(ttl int64) int64 {
	s.t.Helper()
	return s.must(&pb.LeaseGrantRequest{TTL: ttl}).(*pb.LeaseGrantResponse).ID
}

// put returns the revision of a put.
func (s *side) put(key string, lease int64) int64 {
	s.t.Helper()
	return s.must(&pb.PutRequest{Key: []byte(key), Lease: lease}).(*pb.PutResponse).Header.Revision
}

// left is how many seconds a lease has left.
func (s *side) left(lease int64) int64 {
	s.t.Helper()
	return s.must(&pb.LeaseTimeToLiveRequest{ID: lease}).(*pb.LeaseTimeToLiveResponse).TTL
}

// renewed renews a lease and returns for how many seconds.
func (s *side) renewed(lease int64) int64 {
	s.t.Helper()
	return s.must(&pb.LeaseKeepAliveRequest{ID: lease}).(*pb.LeaseKeepAliveResponse).TTL
}
