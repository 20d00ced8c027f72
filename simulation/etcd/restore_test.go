package etcd_test

import (
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// TestTermOfTheIsolated has the others elect leaders while a member is cut off from them: its term is the one that it knows.
func TestTermOfTheIsolated(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *etcd.Cluster, apis []api) {
		before := apis[2].header(t, false).RaftTerm
		c.Isolate(2, true)
		c.Elect(1)
		expect(t, "the term of the others", apis[1].header(t, false).RaftTerm, before+1)
		expect(t, "the term of the member", apis[2].header(t, true).RaftTerm, before)
		c.Isolate(2, false)
		expect(t, "the term of the member", apis[2].header(t, true).RaftTerm, before+1)
	})
}

// TestOldRights changes rights while a put waits for a leader: it is refused then, for it was asked for under other rights.
func TestOldRights(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, c *etcd.Cluster, apis []api) {
		may := etcd.User{Name: "u", Password: "p", Rights: []etcd.Right{{From: "a", Read: true, Write: true}}}
		c.Protect(may)
		r, err := apis[0].Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "u", Password: "p"})
		if err != nil {
			t.Fatal(err)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, r.Token)
		put := func() string {
			_, err := apis[0].Put(ctx, &pb.PutRequest{Key: []byte("a")})
			return code(err)
		}
		for i := range apis {
			c.Isolate(i, true)
		}
		time.Sleep(2 * time.Second)
		waiting := make(chan string)
		go func() { waiting <- put() }()
		time.Sleep(time.Second)
		c.Protect(may)
		for i := range apis {
			c.Isolate(i, false)
		}
		expect(t, "the put that waited", <-waiting, rpctypes.ErrGRPCAuthOldRevision.Error())
		expect(t, "the next", put(), "ok")
	})
}

// header is that of an answer.
func (a api) header(t *testing.T, serializable bool) *pb.ResponseHeader {
	t.Helper()
	r, err := a.Range(t.Context(), &pb.RangeRequest{Key: []byte("a"), Serializable: serializable})
	if err != nil {
		t.Fatal(err)
	}
	return r.Header
}
