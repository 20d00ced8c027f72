package registration

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// halted is a lease client whose keepalives end at once, as the etcd client's do once it has given them up.
type halted struct{ clientv3.Lease }

func (halted) KeepAlive(context.Context, clientv3.LeaseID) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	return nil, clientv3.ErrKeepAliveHalted{}
}

// Keepalives that end at once cost few leases: the pauses between them grow.
func TestG3_KeepAliveThatEndsAtOnce(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	client.Lease = halted{client.Lease}
	r := w.newRegistry(client)
	register(t, r, key, addr(0))
	calls := w.etcd.Calls()
	calls.Reset()
	const d = 3 * time.Second
	<-time.After(d)
	if n := calls.Count(etcdtest.LeaseGrant, ""); n > 6 {
		t.Errorf("%d leases in %v, %d transactions", n, d, calls.Count(etcdtest.Txn, ""))
	}
	must(t, r.Close(kit.Bounded(t, soon)))
}

// gateway is a gRPC proxy before etcd, as people have them: while etcd is away it answers Unavailable by itself, at
// once, on a connection that is well.
type gateway struct {
	etcd  *grpc.ClientConn
	addr  string
	away  atomic.Bool
	calls atomic.Int64  // keepalives while it is away
	cut   chan struct{} // closed to end the streams
}

// raw is a message as it was sent.
type raw struct{ bytes []byte }

type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return v.(*raw).bytes, nil }
func (rawCodec) Unmarshal(data []byte, v any) error { v.(*raw).bytes = slices.Clone(data); return nil }
func (rawCodec) Name() string                       { return "raw" }

func newGateway(t *testing.T, etcd string) *gateway {
	t.Helper()
	g := &gateway{cut: make(chan struct{})}
	var err error
	g.etcd, err = grpc.NewClient(strings.TrimPrefix(etcd, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	must(t, err)
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(g.handle))
	lis := listen(t, "127.0.0.1:0")
	g.addr = lis.Addr().String()
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(func() { server.Stop(); _ = g.etcd.Close() })
	return g
}

// handle passes a call on to etcd, unless that is away.
func (g *gateway) handle(_ any, in grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(in)
	if g.away.Load() {
		if strings.HasSuffix(method, "LeaseKeepAlive") {
			g.calls.Add(1)
		}
		return status.Error(codes.Unavailable, "no healthy upstream")
	}
	ctx, cancel := context.WithCancel(in.Context())
	defer cancel()
	md, _ := metadata.FromIncomingContext(ctx)
	out, err := g.etcd.NewStream(metadata.NewOutgoingContext(ctx, md.Copy()), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		_ = forward(in, out)
		_ = out.CloseSend()
	}()
	done := make(chan error, 1)
	go func() { done <- forward(out, in) }()
	select {
	case err := <-done:
		return err
	case <-g.cut:
		return status.Error(codes.Unavailable, "upstream reset")
	}
}

// stream is one side of a call, whichever.
type stream interface {
	RecvMsg(m any) error
	SendMsg(m any) error
}

// forward passes messages on until from ends.
func forward(from, to stream) error {
	for {
		var m raw
		if err := from.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := to.SendMsg(&m); err != nil {
			return err
		}
	}
}

// client returns a client of etcd through the gateway.
func (g *gateway) client(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{g.addr}, Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Renewals out of turn are spaced, also where a proxy before etcd answers at once that it has none.
func TestG27_RenewalsThroughAProxyWithoutEtcd(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	g := newGateway(t, w.etcd.Endpoints()[0])
	register(t, w.newRegistry(g.client(t), runtime.WithLeaseTTL(4*time.Second)), key, addr(0))
	g.away.Store(true)
	close(g.cut)
	const d = 8 * time.Second
	<-time.After(d)
	n := int(g.calls.Load())
	report.Count(t, "G27", "keepalives in 8 s of a proxy without etcd", n)
	if n > 8*20 {
		t.Errorf("%d keepalives in %v of a proxy without etcd, by one process with one entry", n, d)
	}
}

// A proxy before etcd keeps the connection up while etcd is restored, so nothing tells of it. The keys are checked
// every 10 s, and a renewal that tells of an earlier revision is sooner.
func TestG16_RestoredBehindAProxy(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	client := newGateway(t, w.etcd.Endpoints()[0]).client(t)
	calls := w.etcd.Calls()
	calls.Reset()
	g := register(t, w.newRegistry(client), key, addr(0), runtime.WithVersion("v1"))
	backup, err := w.etcd.Backup()
	must(t, err)
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	w.chatter(50)
	kit.Eventually(t, soon, "the key is watched", func() bool { return calls.Count(etcdtest.Watch, "") > 0 })
	must(t, w.etcd.RestoreBackup(backup))
	kit.Eventually(t, soon, "the proxy reaches etcd", func() bool {
		_, err := client.Get(kit.Bounded(t, time.Second), "x")
		return err == nil
	})
	took := w.becomesWithin(10*time.Second, key, contents{entry: "v2"}, "after a restore that the connection does not show")
	report.Took(t, "G16", "etcd as said after a restore behind a proxy", took)
}
