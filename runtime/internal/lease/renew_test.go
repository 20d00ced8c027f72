package lease

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// restored registers a, has somebody delete it and the session put it back: the next put is to wait.
func (s *script) restored() {
	s.t.Helper()
	s.have("a")
	s.run(checkUnwatched)
	s.delete("a")
	s.run(checkMin)
	s.settle()
	if calls := strings.Join(s.calls, ", "); calls != "check a, check a, put a" {
		s.t.Fatalf("the calls are %s", calls)
	}
	s.calls = nil
}

// delete has somebody delete a key, of which a watch tells.
func (s *script) delete(key string) {
	s.etcd.remove(key)
	s.core.onUpdate(s.now, key, nil, s.core.revision)
}

// renewIfDue sends a renewal if one is due out of turn, and reports whether.
func (s *script) renewIfDue() bool {
	id := s.core.lease
	due, _ := s.core.renewalDue(s.now, id)
	if !due {
		return false
	}
	if _, ok := s.etcd.leases[id]; !ok {
		s.core.renewalFailed(s.now, id, rpctypes.ErrLeaseNotFound)
		return true
	}
	s.core.confirm(s.now, id)
	s.core.renewed(s.now, id, ttl, 0)
	return true
}

// A key that goes again soon after it was put back waits for its next put. Its lease may have been revoked, so that is
// asked first.
func TestG1_ARevokedLeaseOwesNoPause(t *testing.T) {
	for _, learn := range []string{"event a", "event a; run 201ms", "nudge; run 201ms"} {
		s := newScript(t)
		s.restored()
		s.core.get(1).granted = s.now.Add(-youngLease) // it has no reason to delay the next grant
		s.renewAt = s.now.Add(time.Minute)             // no keepalive comes to help
		s.play("revoke 1; " + learn)
		if !s.renewIfDue() {
			t.Fatalf("%s: no renewal is due", learn)
		}
		s.settle()
		s.state("a", Registered)
		if kv := s.etcd.get("a"); kv == nil || kv.lease != 2 {
			t.Errorf("%s: etcd has %+v; the calls were %s", learn, kv, strings.Join(s.calls, ", "))
		}
	}
}

// Who deletes a key again and again causes no more renewals than puts, and puts at a limited rate as ever.
func TestG2_DeletionsCauseFewRenewals(t *testing.T) {
	s := newScript(t)
	s.restored()
	renewals := 0
	for end := s.now.Add(time.Minute); s.now.Before(end); {
		s.delete("a")
		s.core.onUpdate(s.now, "a", nil, s.core.revision) // once more, for good measure
		if s.renewIfDue() {
			renewals++
		}
		s.run(10 * time.Millisecond)
	}
	puts := strings.Count(strings.Join(s.calls, ", "), "put a")
	if puts < 20 || puts > 60 {
		t.Errorf("%d puts in a minute, want one in 1 s to 2 s", puts)
	}
	if renewals < 20 || renewals > puts+1 {
		t.Errorf("%d renewals in a minute, with %d puts", renewals, puts)
	}
}

// A suspicion lasts until a renewal is answered that was sent since.
func TestASuspicionIsNotDropped(t *testing.T) {
	s := newScript(t)
	s.restored()
	due := func(want bool, when string) {
		t.Helper()
		if got, _ := s.core.renewalDue(s.now, 1); got != want || s.core.suspects(1) != (want || when == "in between") {
			t.Errorf("%s: a renewal is due: %v, want %v; suspected: %v", when, got, want, s.core.suspects(1))
		}
	}
	s.core.renewed(s.now, 1, ttl, 0)
	if got, _ := s.core.renewalDue(s.now, 1); got || s.core.suspects(1) {
		t.Fatal("suspected without a reason")
	}
	before := s.now.Add(-time.Millisecond)
	s.delete("a")
	due(true, "the key has gone")
	due(false, "in between")
	s.now = s.now.Add(ttl / renewSpacing)
	due(true, "no answer has come")
	s.core.confirm(before, 1)
	s.core.renewed(s.now, 1, ttl, 0)
	s.now = s.now.Add(ttl / renewSpacing)
	due(true, "what was sent before was answered")
	s.core.renewalFailed(s.now, 1, context.DeadlineExceeded)
	s.now = s.now.Add(ttl / renewSpacing)
	due(true, "the time of a renewal has run out")
	s.core.confirm(s.now, 1)
	s.now = s.now.Add(ttl / renewSpacing)
	due(false, "a renewal was answered")
}

// revokedLease does not answer its first question, and has been revoked.
type revokedLease struct {
	clientv3.Lease
	asked *atomic.Int32
}

func (revokedLease) KeepAlive(context.Context, clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	return make(chan *clientv3.LeaseKeepAliveResponse), nil
}

func (l revokedLease) TimeToLive(ctx context.Context, _ clientv3.LeaseID, _ ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	if l.asked.Add(1) == 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &clientv3.LeaseTimeToLiveResponse{TTL: -1}, nil
}

func (revokedLease) KeepAliveOnce(context.Context, clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return nil, rpctypes.ErrLeaseNotFound
}

// A suspicion is followed at once while the renewals are waiting for their turn, and again if etcd does not answer.
func TestASuspicionWakesTheRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const id, life = 7, 15 * time.Second
		var asked atomic.Int32
		s := New(&clientv3.Client{Lease: revokedLease{asked: &asked}}, Options{TTL: life})
		s.core.granted(time.Now(), id, life)
		s.mu.Lock()
		s.renewLeases([]clientv3.LeaseID{id})
		s.mu.Unlock()
		time.Sleep(time.Second)
		if n := asked.Load(); n != 0 {
			t.Fatalf("%d questions without a reason", n)
		}
		s.locked(func(c *core, now time.Time) {
			c.get(id).suspected = now
			s.renewSuspects()
		})
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("%d questions at once, want 1", n)
		}
		time.Sleep(renewSpacingMax + renewTimeout)
		synctest.Wait()
		var gone bool
		if s.locked(func(c *core, _ time.Time) { gone = c.get(id) == nil }); !gone || asked.Load() != 2 {
			t.Errorf("the lease is found gone: %t, after %d questions, want 2", gone, asked.Load())
		}
		s.cancel()
		s.wg.Wait()
	})
}
