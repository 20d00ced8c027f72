package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
	etcderrors "go.etcd.io/etcd/server/v3/etcdserver/errors"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

// world is a cluster and the network on which clients reach it.
type world struct {
	*Cluster
	t   *testing.T
	net *network.Network
}

// inBubble runs f with a cluster of some members. The bubble itself fails if a
// goroutine remains afterwards.
func inBubble(t *testing.T, members int, f func(t *testing.T, w *world)) {
	Bubble(t, func(t *testing.T) {
		w := &world{t: t, net: network.New()}
		addrs := []string{"10.0.1.1:2379", "10.0.1.2:2379", "10.0.1.3:2379"}[:members]

		c, err := New(w.net, addrs, 0)
		if err != nil {
			t.Fatal(err)
		}

		w.Cluster = c
		defer func() { w.check(c.Close()) }()

		f(t, w)
	})
}

func (w *world) check(err error) {
	w.t.Helper()

	if err != nil {
		w.t.Error(err)
	}
}

// client returns an etcd client on a host. The client knows the given members,
// by default all. The password is the user's name.
func (w *world) client(host, user string, members ...int) *clientv3.Client {
	w.t.Helper()

	addrs := w.addrs
	for i, member := range members {
		addrs = append(addrs[:i:i], w.addrs[member])
	}

	c, err := clientv3.New(clientv3.Config{
		Endpoints:   addrs,
		Logger:      zap.NewNop(),
		Username:    user,
		Password:    user,
		DialTimeout: 5 * time.Second,
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(w.net.Dialer(host))},
	})
	if err != nil {
		w.t.Fatal(err)
	}

	w.t.Cleanup(func() { c.Close() })

	return c
}

// restart calls change while all members are stopped, and starts them again.
func (w *world) restart(change func() error) {
	w.t.Helper()

	w.stopAll()
	time.Sleep(time.Second)
	w.check(change())

	for i := range w.addrs {
		w.check(w.Start(i))
	}
}

// isolateAll cuts all members off from each other, or reconnects them.
func (w *world) isolateAll(on bool) {
	for i := range w.addrs {
		w.Isolate(i, on)
	}
}

// leads returns the member that leads, -1 if none does.
func (w *world) leads() int {
	if p := w.leader(); p != nil {
		return p.member
	}

	return -1
}

// keys returns all keys with their values, as the mirror has them.
func (w *world) keys() string {
	var out []string
	for _, e := range w.Entries("") {
		out = append(out, e.Key+"="+e.Value)
	}

	return strings.Join(out, " ")
}

// put puts a key with a timeout.
func (w *world) put(c *clientv3.Client, timeout time.Duration, key string) error {
	return errOf(c.Put(w.within(timeout), key, ""))
}

// within returns a context that is done after d.
func (w *world) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	w.t.Cleanup(cancel)

	return ctx
}

// heard collects lines from other goroutines.
type heard chan string

func (h heard) add(format string, args ...any) {
	h <- fmt.Sprintf(format, args...)
}

// take returns and removes the lines.
func (h heard) take() string {
	var lines []string
	for len(h) > 0 {
		lines = append(lines, <-h)
	}

	return strings.Join(lines, ", ")
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()

	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestIntercept_Unary(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		c := w.client("10.0.0.1", "")
		w.check(errOf(c.Get(t.Context(), "a")))

		for _, tt := range []struct {
			name    string
			verdict Verdict
			ends    error // the error of a put with a timeout of 2 s
			after   time.Duration
			effect  string // the effect, with its time since the put; "" if none within 5 s
		}{
			{"passes", Verdict{}, nil, 0, "put after 0s"},
			{"late", Verdict{Before: time.Second}, nil, time.Second, "put after 1s"},
			{"late, after the client gave up", Verdict{Before: 3 * time.Second},
				context.DeadlineExceeded, 2 * time.Second, "put after 3s"},
			{"answered late", Verdict{After: time.Second}, nil, time.Second, "put after 0s"},
			{"lost", Verdict{Lose: true}, context.DeadlineExceeded, 2 * time.Second,
				"put after 0s"},
			{"refused", Verdict{Err: rpctypes.ErrGRPCNoLeader}, rpctypes.ErrNoLeader, 0, ""},
		} {
			calls := make(heard, 100)
			effects := make(heard, 100)
			began := time.Now()

			w.Intercept(func(c Call) Verdict {
				calls.add("%v", c)
				return tt.verdict
			})

			w.OnCommit(func(c *Change) { effects.add("put after %v", c.At.Sub(began)) })

			err := w.put(c, 2*time.Second, tt.name)
			expect(t, tt.name+": answer", time.Since(began), tt.after)
			expect(t, fmt.Sprintf("%s: the error %v is %v", tt.name, err, tt.ends),
				errors.Is(err, tt.ends), true)
			time.Sleep(5 * time.Second)
			expect(t, tt.name+": effect", effects.take(), tt.effect)
			expect(t, tt.name+": calls", calls.take(),
				fmt.Sprintf("{10.0.0.1 0 Put [%s] true}", tt.name))
		}
	})
}

func TestQueue(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		c := w.client("10.0.0.1", "")
		w.Queue(time.Second, 0)
		began := time.Now()
		w.Hang(0, time.Second)
		_ = w.put(c, time.Millisecond, "a") // stays in the queue
		w.check(w.put(c, time.Minute, "b"))
		expect(t, "time of two puts after a hang", time.Since(began), 3*time.Second)
	})
}

func TestIntercept_Streams(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		c := w.client("10.0.0.1", "")
		lease, err := c.Grant(t.Context(), 60)
		w.check(err)
		intercept := func(method string, v Verdict) {
			w.Intercept(func(c Call) Verdict { return map[string]Verdict{method: v}[c.Method] })
		}
		keepAlive := func(v Verdict) string {
			intercept("LeaseKeepAlive", v)
			began := time.Now()
			_, err := c.KeepAliveOnce(w.within(2*time.Second), lease.ID)

			return fmt.Sprintf("after %v: %v", time.Since(began), err == nil)
		}

		expect(t, "keepalive late both ways",
			keepAlive(Verdict{Before: time.Second, After: 500 * time.Millisecond}),
			"after 1.5s: true")
		expect(t, "keepalive lost", keepAlive(Verdict{Lose: true}), "after 2s: false")
		expect(t, "keepalive refused", keepAlive(Verdict{Err: rpctypes.ErrGRPCPermissionDenied}),
			"after 0s: false")

		intercept("Watch", Verdict{After: 1500 * time.Millisecond})
		began := time.Now()
		events := c.Watch(clientv3.WithRequireLeader(t.Context()), "a")
		w.check(errOf(c.Put(t.Context(), "a", "")))
		expect(t, "events of a watch with a late answer", len((<-events).Events), 1)
		expect(t, "time of a watch with a late answer", time.Since(began), 1500*time.Millisecond)
	})
}

func TestOnCommit_NamesTheClient(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		changes := make(chan *Change, 100)
		w.OnCommit(func(c *Change) { changes <- c })

		take := func() string {
			lines := make(heard, 100)
			for len(changes) > 0 {
				c := <-changes
				lines.add("%s=%s by %q", c.Key, c.Value, c.Client)
			}

			return lines.take()
		}

		one := w.client("10.0.0.1", "", w.leads())
		two := w.client("10.0.0.2", "", w.leads())
		lease, err := one.Grant(t.Context(), 5)
		w.check(err)
		w.check(errOf(one.Put(t.Context(), "a", "1", clientv3.WithLease(lease.ID))))
		expect(t, "put", take(), `a=1 by "10.0.0.1"`)
		w.check(errOf(
			two.Txn(t.Context()).Then(clientv3.OpPut("b", "2"), clientv3.OpDelete("a")).Commit()))
		expect(t, "transaction", take(), `b=2 by "10.0.0.2", a= by "10.0.0.2"`)
		w.check(w.Put("c", "3", int64(lease.ID)))
		w.check(errOf(one.Revoke(t.Context(), lease.ID)))
		expect(t, "operator, and a revoke", take(), `c=3 by "", c= by ""`)
		lease, err = one.Grant(t.Context(), 2)
		w.check(err)
		w.check(w.Put("d", "4", int64(lease.ID)))
		time.Sleep(5 * time.Second)
		expect(t, "expiry", take(), `d=4 by "", d= by ""`)
	})
}

func TestData(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		c := w.client("10.0.0.1", "")
		ids := func() string {
			r, err := c.Get(t.Context(), "a")
			w.check(err)
			expect(t, "revision", w.Revision(), r.Header.Revision)

			return fmt.Sprint(r.Header.ClusterId, r.Header.MemberId)
		}

		lease, err := c.Grant(t.Context(), 100)
		w.check(err)
		w.check(errOf(c.Put(t.Context(), "a", "1", clientv3.WithLease(lease.ID))))
		w.Stop(0)
		expect(t, "connections", w.net.Connections("10.0.0.1", ""), 0)
		expect(t, "get while the member is stopped fails",
			errOf(c.Get(w.within(time.Second), "a")) != nil, true)
		expect(t, "keys and leases while stopped", fmt.Sprint(w.keys(), w.Leases()),
			fmt.Sprintf("a=1[%d]", lease.ID))
		backup, err := w.Backup() // from disk
		w.check(err)
		w.check(w.Start(0))
		was := ids()
		revision := w.Revision()
		time.Sleep(3 * time.Minute)
		expect(t, "keys and leases after the lease has expired", fmt.Sprint(w.keys(), w.Leases()),
			"[]")

		w.restart(func() error { return w.Restore(backup, false, 0) })
		expect(t, "restored",
			fmt.Sprintf("%s %v %d", w.keys(), ids() == was, w.Revision()-revision), "a=1 true 0")
		w.restart(w.Wipe)
		expect(t, "wiped", fmt.Sprintf("%s %v %d", w.keys(), ids() == was, w.Revision()), " true 1")
		w.restart(func() error { return w.Restore(backup, true, 1000) })
		expect(t, "restored as new",
			fmt.Sprintf("%s %v %d", w.keys(), ids() == was, w.Revision()-revision),
			"a=1 false 1000")
		got := <-c.Watch(t.Context(), "a", clientv3.WithRev(revision))
		expect(t, "compacted", got.CompactRevision, revision+1000)
		w.check(w.Compact()) // succeeds even without a history
	})
}

func TestOperator(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		c := w.client("10.0.0.1", "")
		lease, err := c.Grant(t.Context(), 10)
		w.check(err)
		w.check(w.Put("a/1", "x", int64(lease.ID)))
		w.check(w.Put("a/1", "y", SameLease))
		expect(t, "entry", w.Entries("a")[0],
			Entry{Key: "a/1", Value: "y", Lease: int64(lease.ID), Create: 2})
		w.check(w.Revoke(int64(lease.ID)))

		for _, key := range []string{"a/1", "a/2", "b", "c"} {
			w.check(w.Put(key, "", 0))
		}

		w.check(w.DeletePrefix("a/"))
		w.check(w.Delete("b"))
		expect(t, "keys", w.keys(), "c=")
		w.check(w.Alarm(true))
		expect(t, "operator's put without space",
			errors.Is(w.Put("a", "", 0), etcderrors.ErrNoSpace), true)
		expect(t, "client's put without space", w.put(c, time.Second, "a"), rpctypes.ErrNoSpace)
		w.check(w.Alarm(false))
		w.check(w.put(c, time.Second, "a"))
	})
}

func TestAuth(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		protect := func(write bool) {
			w.check(w.Protect(User{Name: "root", Password: "root"},
				User{"u", "u", []Right{{From: "a", To: "b", Read: true, Write: write}}}))
		}

		protect(true)
		c := w.client("10.0.0.1", "u")
		w.check(w.put(c, time.Second, "a"))
		expect(t, "put of another key", w.put(c, time.Second, "b"), rpctypes.ErrPermissionDenied)
		revision := w.newest().etcd.AuthStore().Revision()
		protect(true)
		expect(t, "revision of the rights, set again", w.newest().etcd.AuthStore().Revision(),
			revision)
		protect(false)
		expect(t, "put without the right", w.put(c, time.Second, "a"), rpctypes.ErrPermissionDenied)
		w.check(errOf(c.Get(t.Context(), "a")))
		protect(true)

		calls := make(heard, 100)
		w.Intercept(func(c Call) Verdict {
			calls.add("%s", c.Method)
			return Verdict{}
		})

		w.check(w.put(c, time.Second, "a"))
		w.check(w.ExpireTokens())
		w.check(w.put(c, time.Second, "a"))
		expect(t, "calls", calls.take(), "Put, Put, Authenticate, Put")
	})
}

func TestThreeMembers(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		old := w.leads()
		c := w.client("10.0.0.1", "", old)
		read := func(options ...clientv3.OpOption) string {
			r, err := c.Get(w.within(20*time.Second), "a", options...)
			return fmt.Sprint(r != nil && len(r.Kvs) > 0, err == nil)
		}

		w.Isolate(old, true)
		w.check(w.Put("a", "1", 0)) // waits for the next leader
		expect(t, "a member leads while the first leader is isolated", w.leads() >= 0, true)
		expect(t, "read of an isolated member: found, without error", read(), "false false")
		expect(t, "stale read of an isolated member: found, without error",
			read(clientv3.WithSerializable()), "false true")
		w.Isolate(old, false)
		time.Sleep(2 * time.Second)
		expect(t, "read: found, without error", read(), "true true")

		w.Lag(old, 300*time.Millisecond)
		w.check(w.Delete("a"))
		expect(t, "stale read of a lagging member: found, without error",
			read(clientv3.WithSerializable()), "true true")
		_, err := c.Grant(w.within(300*time.Millisecond-1), 10)
		expect(t, "grant within less than the member's lag fails", err != nil, true)
		bounded := w.within(2 * time.Second)
		lease, err := c.Grant(bounded, 10)
		w.check(err)

		// the member forwards the request to the leader
		w.check(errOf(c.KeepAliveOnce(bounded, lease.ID)))
		w.Lag(old, 0)

		w.Elect(old)
		expect(t, "leader", w.leads(), old)
		w.isolateAll(true)
		began := time.Now()
		expect(t, "put without a quorum fails", w.Put("a", "1", 0) != nil, true)
		expect(t, "operator waits", time.Since(began), operatorTimeout)
		expect(t, "request of a member to an isolated leader fails",
			errOf(c.TimeToLive(w.within(time.Second), lease.ID)) != nil, true)
		w.isolateAll(false)
		w.restart(func() error { return nil })
		w.Stop(old)
		w.check(w.Put("a", "2", 0))
		w.check(w.Start(old))
		expect(t, "read of the member that was stopped: found, without error", read(), "true true")
	})
}

func TestUnsafe_ChecksVersionAndType(t *testing.T) {
	if err := checkVersion("3.7.4"); err == nil {
		t.Error("checkVersion of an unknown version: got nil, want an error")
	}

	for _, name := range []string{"missing", "peerRt"} {
		func() {
			defer func() {
				expect(t, "a missing field, or one of another type, panics", recover() != nil, true)
			}()

			field[int](new(etcdserver.EtcdServer), name)
		}()
	}
}
