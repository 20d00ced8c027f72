package etcd_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// api is the services of one member, as its clients see them.
type api struct {
	pb.KVClient
	pb.WatchClient
	pb.LeaseClient
	pb.AuthClient
	pb.MaintenanceClient
}

// inBubble runs f in a bubble with a cluster and a connection to each member. That nothing is left once the cluster and
// the connections are closed, the bubble sees to.
func inBubble(t *testing.T, members int, f func(t *testing.T, c *etcd.Cluster, apis []api)) {
	synctest.Test(t, func(t *testing.T) {
		c := etcd.New(members)
		defer c.Close()
		var apis []api
		for i := range members {
			conn := connect(t, serve(c, i))
			defer conn.Close()
			apis = append(apis, apiOf(conn))
		}
		f(t, c, apis)
	})
}

func apiOf(conn *grpc.ClientConn) api {
	return api{
		pb.NewKVClient(conn), pb.NewWatchClient(conn), pb.NewLeaseClient(conn), pb.NewAuthClient(conn),
		pb.NewMaintenanceClient(conn),
	}
}

func serve(c *etcd.Cluster, member int) *bufconn.Listener {
	lis := bufconn.Listen(1 << 16)
	c.Serve(member, lis)
	return lis
}

func connect(t *testing.T, lis *bufconn.Listener) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///model", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (a api) put(key, value string, lease int64) error {
	_, err := a.Put(context.Background(), &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease})
	return err
}

// get returns the value of a key, "" when it is not there, and an error as the value.
func (a api) get(key string, serializable bool) string {
	r, err := a.Range(context.Background(), &pb.RangeRequest{Key: []byte(key), Serializable: serializable})
	if err != nil {
		return err.Error()
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// watch begins a watch of all keys and has what it hears of, with when, sent to the channel.
func (a api) watch(ctx context.Context, t *testing.T) <-chan string {
	stream, err := a.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	heard := make(chan string, 100)
	go func() {
		defer close(heard)
		for {
			r, err := stream.Recv()
			since := time.Since(began)
			if err != nil {
				heard <- fmt.Sprintf("%v: %v", since, err)
				return
			}
			if r.CancelReason != "" {
				heard <- fmt.Sprintf("%v: %s", since, r.CancelReason)
			}
			for _, e := range r.Events {
				heard <- fmt.Sprintf("%v: %v %s=%s", since, e.Type, e.Kv.Key, e.Kv.Value)
			}
		}
	}()
	return heard
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, not %v", what, got, want)
	}
}

func code(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// timed returns how f ended and how long it took.
func timed(f func() string) string {
	began := time.Now()
	s := f()
	return fmt.Sprintf("%v: %s", time.Since(began), s)
}

// TestIsolated cuts a follower from its peers, and lets it back: it answers from what it knew, and hears of the rest. What it refuses
// is compared with etcd in package conformance.
func TestIsolated(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *etcd.Cluster, apis []api) {
		expect(t, "put", code(apis[1].put("a", "1", 0)), "ok")
		heard := apis[1].watch(t.Context(), t)
		synctest.Wait()
		c.Isolate(1, true)
		expect(t, "put through another", code(apis[0].put("a", "2", 0)), "ok")
		expect(t, "serializable range", apis[1].get("a", true), "1")
		time.Sleep(28 * time.Second)
		c.Isolate(1, false)
		expect(t, "watch", <-heard, "28s: PUT a=2")
		expect(t, "linearizable range", apis[1].get("a", false), "2")
	})
}

// TestQuorumLost cuts two of three members off, and lets them back: leases get their full time.
func TestQuorumLost(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *etcd.Cluster, apis []api) {
		lease := c.Grant(10 * time.Second)
		expect(t, "put", code(apis[2].put("a", "1", lease)), "ok")
		time.Sleep(9 * time.Second)
		c.Isolate(0, true)
		c.Isolate(1, true)
		time.Sleep(20 * time.Second)
		if got, ok := c.Get("a"); !ok {
			t.Errorf("a lease expired without quorum: %v", got)
		}
		ranged, put := make(chan string), make(chan string)
		go func() { ranged <- timed(func() string { return apis[2].get("a", false) }) }()
		go func() { put <- timed(func() string { return code(apis[2].put("b", "1", 0)) }) }()
		time.Sleep(2 * time.Second)
		c.Isolate(1, false)
		expect(t, "range", <-ranged, "3.2s: "+rpctypes.ErrGRPCLeaderChanged.Error())
		expect(t, "put", <-put, "3.2s: ok")
		r, err := apis[2].LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: lease})
		if err != nil || r.TTL != 11 { // an election timeout is added
			t.Errorf("the lease has %v, %v left", r, err)
		}
		time.Sleep(12 * time.Second)
		if _, ok := c.Get("a"); ok {
			t.Error("the lease has not expired")
		}
	})
}

// TestLag has a member apply late.
func TestLag(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *etcd.Cluster, apis []api) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		heard := apis[1].watch(ctx, t)
		synctest.Wait()
		c.Lag(1, 2*time.Second)
		expect(t, "put through another", timed(func() string { return code(apis[0].put("a", "1", 0)) }), "0s: ok")
		expect(t, "serializable range", apis[1].get("a", true), "")
		expect(t, "linearizable range", timed(func() string { return apis[1].get("a", false) }), "2s: 1")
		expect(t, "watch", <-heard, "2s: PUT a=1")
		expect(t, "put through it", timed(func() string { return code(apis[1].put("a", "2", 0)) }), "2s: ok")
		c.Lag(1, 0)
		expect(t, "put through it, then", timed(func() string { return code(apis[1].put("a", "3", 0)) }), "0s: ok")
		expect(t, "watch", <-heard, "4s: PUT a=2")
		expect(t, "watch", <-heard, "4s: PUT a=3")
	})
}

// TestIntercept delays, loses and refuses calls.
func TestIntercept(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *etcd.Cluster, apis []api) {
		var verdict etcd.Verdict
		c.Intercept(func(call etcd.Call) etcd.Verdict {
			if call.Write && call.Keys[0] == "a" {
				return verdict
			}
			return etcd.Verdict{}
		})
		put := func(value string) string {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := apis[0].Put(ctx, &pb.PutRequest{Key: []byte("a"), Value: []byte(value)})
			if status.Code(err) == codes.DeadlineExceeded {
				return "late" // the client and the server notice at the same instant, and have texts of their own
			}
			return code(err)
		}
		const late = "2s: late"
		verdict = etcd.Verdict{Before: time.Second}
		expect(t, "delayed before", timed(func() string { return put("1") }), "1s: ok")
		verdict = etcd.Verdict{After: time.Second}
		expect(t, "delayed after", timed(func() string { return put("2") }), "1s: ok")
		verdict = etcd.Verdict{Lose: true}
		expect(t, "lost", timed(func() string { return put("3") }), late)
		expect(t, "effect of the lost one", apis[0].get("a", false), "3")
		verdict = etcd.Verdict{Before: 5 * time.Second}
		expect(t, "delayed too long", timed(func() string { return put("4") }), late)
		expect(t, "no effect yet", apis[0].get("a", false), "3")
		time.Sleep(4 * time.Second)
		expect(t, "effect though the client has gone", apis[0].get("a", false), "4")
		verdict = etcd.Verdict{Err: rpctypes.ErrGRPCNoSpace}
		expect(t, "refused", put("5"), rpctypes.ErrGRPCNoSpace.Error())
		verdict = etcd.Verdict{Busy: true}
		expect(t, "refused for too many", put("6"), status.Error(codes.Unknown, rpctypes.ErrTooManyRequests.Error()).Error())
		expect(t, "no effect", apis[0].get("a", false), "4")
	})
}

// TestSlowWatch has a client not read, so that its watch falls behind, and then read; what it hears is complete, unless
// the past was compacted meanwhile.
func TestSlowWatch(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		inBubble(t, 1, func(t *testing.T, c *etcd.Cluster, apis []api) {
			stream, err := apis[0].Watch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			create := &pb.WatchCreateRequest{Key: []byte("a")}
			err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			const puts = 400
			value := make([]byte, 1000)
			for range puts {
				if err := c.Put("a", string(value), 0); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if compacted {
				c.Compact()
			}
			next := int64(2)
			for next < puts+2 {
				r, err := stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range r.Events {
					if e.Kv.ModRevision != next {
						t.Fatalf("the watch heard of revision %d, not %d", e.Kv.ModRevision, next)
					}
					next++
				}
				if r.Canceled {
					expect(t, "compacted revision", r.CompactRevision, puts+1)
					break
				}
			}
			if compacted == (next == puts+2) {
				t.Errorf("compacted: %v, and the watch heard up to %d", compacted, next)
			}
		})
	}
}

// TestCloseWhileWaiting closes a cluster on which all sorts of calls wait.
func TestCloseWhileWaiting(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *etcd.Cluster, apis []api) {
		c.Isolate(0, true)
		ended := make(chan string)
		go func() { ended <- apis[0].get("a", false) }()
		go func() { ended <- code(apis[0].put("a", "1", 0)) }()
		go func() { ended <- <-apis[0].watch(t.Context(), t) }()
		c.Intercept(func(call etcd.Call) etcd.Verdict {
			return etcd.Verdict{Lose: call.Method == "DeleteRange", Before: 1000 * time.Second}
		})
		go func() {
			_, err := apis[1].DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte("a")})
			ended <- code(err)
		}()
		synctest.Wait()
		c.Close()
		for range 4 {
			if got := <-ended; got == "ok" || got == "" {
				t.Errorf("a call ended with %q", got)
			}
		}
	})
}

// TestRestartedMember does not know the tokens given before.
func TestRestartedMember(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *etcd.Cluster, apis []api) {
		c.Protect(etcd.User{Name: "root", Password: "p", Root: true})
		r, err := apis[0].Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root", Password: "p"})
		if err != nil {
			t.Fatal(err)
		}
		c.Stop(0)
		conn := connect(t, serve(c, 0))
		defer conn.Close()
		ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, r.Token)
		_, err = apiOf(conn).Range(ctx, &pb.RangeRequest{Key: []byte("a")})
		expect(t, "a token from before", code(err), rpctypes.ErrGRPCInvalidAuthToken.Error())
	})
}

// TestWatchVerdicts delays what a watch hears.
func TestWatchVerdicts(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *etcd.Cluster, apis []api) {
		verdict := etcd.Verdict{After: 2 * time.Second}
		c.Intercept(func(call etcd.Call) etcd.Verdict { return verdict })
		heard := apis[0].watch(t.Context(), t)
		synctest.Wait()
		if err := c.Put("a", "1", 0); err != nil {
			t.Fatal(err)
		}
		expect(t, "answered late", <-heard, "2s: PUT a=1")
		verdict = etcd.Verdict{Before: time.Second}
		heard = apis[0].watch(t.Context(), t)
		synctest.Wait()
		if err := c.Put("a", "2", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := c.Put("a", "3", 0); err != nil {
			t.Fatal(err)
		}
		expect(t, "begun late", <-heard, "2s: PUT a=3")
		verdict = etcd.Verdict{Err: rpctypes.ErrGRPCNoSpace}
		expect(t, "refused", <-apis[0].watch(t.Context(), t), "0s: "+rpctypes.ErrGRPCNoSpace.Error())
	})
}
