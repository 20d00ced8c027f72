package discovery

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// The services of the page.
const (
	guardedKey = "acme/greeter"
	legacy     = "acme/legacy" // in LEASE_SUFFIX
)

// guarded is one etcd with authentication on and the roles of the page.
type guarded struct {
	t    *testing.T
	etcd *etcdtest.Cluster
	logs *kit.Logs
}

// newGuarded starts an etcd for a test that runs beside others, since most of its time is etcd's.
func newGuarded(t *testing.T) *guarded {
	t.Helper()
	t.Parallel()
	leak.Later(t)
	w := &guarded{t: t, etcd: etcdtest.Start(t, etcdtest.WithAuth("root")), logs: &kit.Logs{}}
	for _, c := range commands(t) {
		must(t, c.run(kit.Bounded(t, soon), w.etcd.Admin()))
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// as returns an etcd client of a user with the given roles and no others.
func (w *guarded) as(roles ...string) *clientv3.Client {
	w.t.Helper()
	ctx, admin, name := kit.Bounded(w.t, soon), w.etcd.Admin(), cmp.Or(strings.Join(roles, "+"), "without-a-role")
	if _, err := admin.UserGet(ctx, name); err != nil {
		_, err := admin.UserAdd(ctx, name, "secret")
		must(w.t, err)
		for _, role := range roles {
			_, err := admin.UserGrantRole(ctx, name, role)
			must(w.t, err)
		}
	}
	return w.etcd.Client(w.t, etcdtest.As(name, "secret"))
}

// registry returns a registry of a process that is the client's user.
func (w *guarded) registry(client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	w.t.Helper()
	return kit.Registry(w.t, w.logs, client, opts...)
}

// put writes as root, around whoever is tested.
func (w *guarded) put(etcdKey, value string, opts ...clientv3.OpOption) {
	w.t.Helper()
	_, err := w.etcd.Admin().Put(kit.Bounded(w.t, soon), etcdKey, value, opts...)
	must(w.t, err)
}

// get reads as root; nil for nothing.
func (w *guarded) get(etcdKey string) *string {
	w.t.Helper()
	resp, err := w.etcd.Admin().Get(kit.Bounded(w.t, soon), etcdKey)
	must(w.t, err)
	if len(resp.Kvs) == 0 {
		return nil
	}
	value := string(resp.Kvs[0].Value)
	return &value
}

// grant returns a new lease of root's, with nothing on it.
func (w *guarded) grant() clientv3.LeaseID {
	w.t.Helper()
	granted, err := w.etcd.Admin().Grant(kit.Bounded(w.t, soon), 60)
	must(w.t, err)
	return granted.ID
}

// attempt is something that a user tries.
type attempt struct {
	what string
	do   func(context.Context) error
}

// allowed fails the test for each attempt that etcd does not let through.
func (w *guarded) allowed(all ...attempt) {
	w.t.Helper()
	for _, a := range all {
		if err := a.do(kit.Bounded(w.t, soon)); err != nil {
			w.t.Errorf("may not %s: %v", a.what, err)
		}
	}
}

// denied fails the test for each attempt that etcd does not refuse for want of a permission.
func (w *guarded) denied(all ...attempt) {
	w.t.Helper()
	for _, a := range all {
		if err := a.do(kit.Bounded(w.t, soon)); err == nil || !strings.Contains(err.Error(), "permission denied") {
			w.t.Errorf("may %s: %v, want a permission denied", a.what, err)
		}
	}
}

func getting(c *clientv3.Client, etcdKey string, opts ...clientv3.OpOption) attempt {
	return attempt{"get " + etcdKey, func(ctx context.Context) error { _, err := c.Get(ctx, etcdKey, opts...); return err }}
}

func listing(c *clientv3.Client, from, end string) attempt {
	a := getting(c, from, clientv3.WithRange(end))
	a.what = "list " + from + " to " + end
	return a
}

func watching(c *clientv3.Client, etcdKey string, opts ...clientv3.OpOption) attempt {
	return attempt{"watch " + etcdKey, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for answer := range c.Watch(ctx, etcdKey, append(opts, clientv3.WithCreatedNotify())...) {
			return answer.Err()
		}
		return ctx.Err()
	}}
}

func putting(c *clientv3.Client, etcdKey string, opts ...clientv3.OpOption) attempt {
	return attempt{"put " + etcdKey, func(ctx context.Context) error {
		_, err := c.Put(ctx, etcdKey, "10.6.6.6:80", opts...)
		return err
	}}
}

func deleting(c *clientv3.Client, etcdKey string) attempt {
	return attempt{"delete " + etcdKey, func(ctx context.Context) error { _, err := c.Delete(ctx, etcdKey); return err }}
}

// touching is every way to read or write a key.
func touching(c *clientv3.Client, etcdKey string) []attempt {
	return []attempt{getting(c, etcdKey), watching(c, etcdKey), putting(c, etcdKey), deleting(c, etcdKey), {"compare " + etcdKey, func(ctx context.Context) error {
		_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(etcdKey), "=", 0)).Commit()
		return err
	}}}
}

func hanging(c *clientv3.Client, etcdKey string, lease clientv3.LeaseID) attempt {
	a := putting(c, etcdKey, clientv3.WithLease(lease))
	a.what = fmt.Sprintf("hang %s on a lease", etcdKey)
	return a
}

func revoking(c *clientv3.Client, lease clientv3.LeaseID) attempt {
	return attempt{"revoke a lease", func(ctx context.Context) error { _, err := c.Revoke(ctx, lease); return err }}
}

func renewing(c *clientv3.Client, lease clientv3.LeaseID) attempt {
	return attempt{"renew a lease", func(ctx context.Context) error { _, err := c.KeepAliveOnce(ctx, lease); return err }}
}

func asking(c *clientv3.Client, lease clientv3.LeaseID, opts ...clientv3.LeaseOption) attempt {
	return attempt{"ask for the time left on a lease", func(ctx context.Context) error {
		left, err := c.TimeToLive(ctx, lease, opts...)
		if err == nil && left.TTL <= 0 {
			err = fmt.Errorf("etcd says %d s", left.TTL)
		}
		return err
	}}
}

// greeterAt returns the description of the greeter under a key of the page.
func greeterAt(key string) *runtime.ServiceDesc {
	desc := basic.Greeter_EtcdServiceDesc
	desc.Key = key
	return &desc
}

// greeter answers with its name.
type greeter struct {
	basic.UnimplementedGreeterServer
	name string
	do   func(context.Context) error // before it answers; nil: nothing
}

func (g *greeter) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	if g.do != nil {
		if err := g.do(ctx); err != nil {
			return nil, err
		}
	}
	return &basic.HelloReply{Message: g.name}, nil
}

// serve starts a server that is registered nowhere, and returns its address.
func (w *guarded) serve(g *greeter, opts ...grpc.ServerOption) (addr string) {
	w.t.Helper()
	lis := kit.Listen(w.t)
	server := grpc.NewServer(opts...)
	basic.RegisterGreeterServer(server, g)
	kit.Serve(w.t, server, lis)
	return lis.Addr().String()
}

// register puts a server's entry under the greeter's key, as root.
func (w *guarded) register(name, addr string) {
	w.t.Helper()
	w.put(guardedKey+"/"+name, fmt.Sprintf(`{"Addr":%q}`, addr))
}

var insecurely = grpc.WithTransportCredentials(insecure.NewCredentials())

// client returns a caller of the greeter.
func (w *guarded) client(r *runtime.Registry, opts ...grpc.DialOption) basic.GreeterClient {
	w.t.Helper()
	conn, err := r.NewClient(greeterAt(guardedKey), append([]grpc.DialOption{insecurely}, opts...)...)
	must(w.t, err)
	return basic.NewGreeterClient(conn)
}

// greet calls once, and returns who answered.
func greet(t *testing.T, c basic.GreeterClient, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	reply, err := c.SayHello(ctx, &basic.HelloRequest{})
	return reply.GetMessage(), err
}

// reaches waits until calls reach a server, over and over.
func (w *guarded) reaches(c basic.GreeterClient, name string) {
	w.t.Helper()
	row := 0
	kit.Eventually(w.t, soon, "calls reach "+name, func() bool {
		got, err := greet(w.t, c, time.Second)
		if row++; err != nil || got != name {
			row = 0
		}
		return row >= 10
	})
}
