package discovery

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestR1_EtcdDownWhenBuilt(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	w.etcd.Cut()
	w.registry = w.newRegistry(w.etcd.Client(t))
	conn := w.conn()
	_, err := call(kit.Bounded(t, time.Second), conn)
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "etcd") || !strings.Contains(err.Error(), key) {
		t.Errorf("call: %v, want DeadlineExceeded, naming etcd and %q", err, key)
	}
	all, err := w.instances().All(kit.Bounded(t, time.Second))
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), key) {
		t.Errorf("All = %v, %v, want DeadlineExceeded, naming %q", all, err, key)
	}
	w.etcd.Restore()
	reached(t, conn, soon, "a")
}

func TestR2_IdleWhileEtcdIsAway(t *testing.T) {
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	conn := w.conn(grpc.WithIdleTimeout(100 * time.Millisecond))
	reached(t, conn, soon, "a")
	w.etcd.Cut()
	kit.Eventually(t, soon, "the connection is idle", func() bool { return conn.GetState() == connectivity.Idle })
	reached(t, conn, soon, "a")
}

func TestR3_CloseWhileEtcdHangs(t *testing.T) {
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	for _, known := range []bool{true, false} {
		registry := w.newRegistry(w.etcd.Client(t))
		conn := dial(t, registry, greeterAt(key))
		if known {
			reached(t, conn, soon, "a")
			w.etcd.Pause()
		} else {
			conn.Connect() // etcd hangs already: the first list is under way
		}
		must(t, conn.Close())
		must(t, registry.Close(kit.Bounded(t, soon)))
		leak.None(t)
	}
	w.etcd.Resume()
}

// TestR3_ConnectionsLastUntilTheEntriesAreOut closes a registry while etcd hangs: whoever finds its entry may still be served, by
// a handler that makes calls.
func TestR3_ConnectionsLastUntilTheEntriesAreOut(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a")
	registry := w.newRegistry(w.etcd.Client(t))
	_, err := registry.Register(kit.Bounded(t, soon), "acme/front", runtime.Endpoint{Addr: "127.0.0.1:1"})
	must(t, err)
	conn := dial(t, registry, greeterAt(key))
	reached(t, conn, soon, "a")
	w.etcd.Pause()
	closed := make(chan error, 1)
	go func() { closed <- registry.Close(kit.Bounded(t, soon)) }()
	kit.Eventually(t, soon, "the registry is being closed", func() bool {
		_, err := registry.NewClient(greeterAt(key), insecurely)
		return err != nil
	})
	for n := range 100 {
		if _, err := within(conn, soon); err != nil {
			t.Errorf("after %d calls, with the entry in etcd: %v", n, err)
			break
		}
	}
	w.etcd.Resume()
	must(t, <-closed)
	if entry := w.get("acme/front/127.0.0.1:1"); entry != nil {
		t.Errorf("%s is left", *entry)
	}
	if _, err := within(conn, soon); status.Code(err) != codes.Canceled {
		t.Errorf("a call after Close: %v", err)
	}
}

func TestR4_NoEndpoint(t *testing.T) {
	w := newWorld(t, nil, runtime.WithEmptyGrace(0))
	conn := w.conn()
	for _, when := range []string{"never any", "all gone"} {
		_, err := call(kit.Bounded(t, soon), conn)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: call: %v, want Unavailable, naming %q", when, err, key)
		}
		waiting := make(chan error, 1)
		go func() {
			_, err := call(kit.Bounded(t, soon), conn, grpc.WaitForReady(true))
			waiting <- err
		}()
		s := w.register(w.serve("a"))
		if err := <-waiting; err != nil {
			t.Errorf("%s: a call that waits: %v", when, err)
		}
		w.delete(key + "/a")
		s.stop()
		kit.Eventually(t, soon, "an empty set is named", func() bool { _, err := call(kit.Bounded(t, soon), conn); return strings.Contains(fmt.Sprint(err), key) })
	}
}

func TestR5_SetVanishes(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	conn := w.calling("a", "b", "c")
	short := w.newRegistry(w.client, runtime.WithEmptyGrace(2*time.Second))
	brief := dial(t, short, greeterAt(key))
	reached(t, brief, soon, "a", "b", "c")
	w.delete(key + "/a")
	reached(t, conn, soon, "b", "c")

	w.delete(key+"/", clientv3.WithPrefix())
	kit.Eventually(t, soon, "the loss is followed", func() bool { return len(short.Status().Keys[0].Endpoints) == 0 })
	if held := w.status().Held; held != 2 {
		t.Errorf("%d endpoints are held for the grace of 30 s, want 2", held)
	}
	reached(t, conn, soon, "b", "c")
}

func TestR6_EtcdDownForLong(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	conn := w.calling("a", "b")
	load := underLoad(t, conn, 2)
	w.etcd.Stop()
	kit.Eventually(t, 2*soon, "the outage is seen", func() bool { return w.logs.Count("interrupted") > 0 })
	load.more(t, 100)
	must(t, w.etcd.Restart())
	w.register(w.serve("c"))
	reached(t, conn, soon, "a", "b", "c")
	load.none(t)
	if n := len(w.logs.Lines()); n > 10 {
		t.Errorf("%d log lines about one outage", n)
	}
}

func TestR7_StartsWhileEtcdIsDown(t *testing.T) {
	leak.Beside(t)
	dir := t.TempDir()
	w := newWorld(t, nil, runtime.WithSnapshotDir(dir))
	w.registerAll("a", "drained")
	must(t, w.registry.SetServiceConfig(kit.Bounded(t, soon), key, `{"loadBalancingConfig":[{"etcd":{"drain":["drained"]}}]}`))
	reached(t, w.conn(), soon, "a")
	must(t, w.registry.Close(kit.Bounded(t, soon)))
	w.etcd.Cut()
	w.registry = w.newRegistry(w.etcd.Client(t), runtime.WithSnapshotDir(dir))
	reached(t, w.conn(), soon, "a")
	if seen, err := round(w.conn(), 10); !slices.Equal(seen, []string{"a"}) {
		t.Errorf("calls go to %v, %v; want to what is not drained", seen, err)
	}
	if w.logs.Count("age=") != 1 {
		t.Error("the age of what is on disk is not shown")
	}

	files, err := filepath.Glob(dir + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("on disk: %v, %v, want one file", files, err)
	}
	must(t, os.WriteFile(files[0], []byte("{"), 0o600))
	w.registry = w.newRegistry(w.etcd.Client(t), runtime.WithSnapshotDir(dir))
	if _, err := call(kit.Bounded(t, 2*time.Second), w.conn()); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("with a corrupt file: %v, want to wait for etcd", err)
	}
	kit.Eventually(t, soon, "the corrupt file is reported", func() bool { return w.logs.Count("cannot be used") == 1 })
	w.etcd.Restore()
	reached(t, w.conn(), soon, "a")
}

func TestR8_OnlyMetadataChanges(t *testing.T) {
	w := newWorld(t, nil)
	a := w.serve("a")
	w.tag(a, `{}`)
	var updates atomic.Int64
	var version atomic.Value
	conn := w.conn(runtime.WithSelector(func(e runtime.Endpoint) bool {
		updates.Add(1)
		version.Store(e.Version)
		return true
	}))
	reached(t, conn, soon, "a")
	connections := a.made.Load()
	for _, metadata := range []string{`{"version":"v2"}`, `{"version":"v2","weight":7}`, `{"version":"v2","zone":"z","x":"y"}`, `{"version":"last"}`} {
		w.tag(a, metadata)
		reached(t, conn, soon, "a")
	}
	kit.Eventually(t, soon, "the change is seen", func() bool { return version.Load() == "last" })
	n := a.made.Load()
	if n != connections {
		t.Errorf("%d connections, want the first alone", n)
	}
	seen := updates.Load()
	for range 5 {
		w.tag(a, `{"version":"last"}`)
	}
	w.tag(a, `{"version":"after"}`)
	kit.Eventually(t, soon, "the change is seen", func() bool { return version.Load() == "after" })
	if n := updates.Load() - seen; n != 1 {
		t.Errorf("%d updates, want one: equal values are none", n)
	}
}

func TestR9_OneTransactionOneUpdate(t *testing.T) {
	w := newWorld(t, nil)
	changes := w.watch(key)
	if set := <-changes; len(set) != 0 {
		t.Fatalf("the first set is %v", set)
	}
	var ops []clientv3.Op
	for i := range 100 {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/%d", key, i), fmt.Sprintf("10.0.0.1:%d", i+1)))
	}
	w.commit(ops)
	set := <-changes
	if len(set) != 100 {
		t.Errorf("the first update has %d endpoints, want all 100", len(set))
	}
}

func TestR10_TwoClusters(t *testing.T) {
	one, two := newWorld(t, nil), newWorld(t, nil)
	c1, c2 := one.calling("a"), two.calling("b")
	crossed := 0
	for range 100 {
		for conn, want := range map[*grpc.ClientConn]string{c1: "a", c2: "b"} {
			name, err := call(kit.Bounded(t, soon), conn)
			if err != nil {
				t.Error(err)
			} else if name != want {
				crossed++
			}
		}
	}
	if crossed > 0 {
		t.Errorf("%d calls reached the other cluster's server", crossed)
	}
}

func TestR11_Proxy(t *testing.T) {
	// Read once a process, and by other tests before: so a process of its own.
	if os.Getenv("HTTPS_PROXY") == "" {
		rerun(t, "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=")
		return
	}
	w := newWorld(t, nil)
	w.put(key+"/a", "greeter.invalid:80") // loopback addresses never go through a proxy
	dialled := make(chan string, 10)
	listen := w.serve("a")
	conn := w.conn(grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		dialled <- addr
		return (&net.Dialer{}).DialContext(ctx, "tcp", listen.addr)
	}))
	reached(t, conn, soon, "a")
	if addr := <-dialled; addr != "greeter.invalid:80" {
		t.Errorf("dialled %q", addr)
	}
	// Without a dialer of the caller's, the address itself is tried, not the proxy.
	_, err := call(kit.Bounded(t, soon), w.conn())
	if err == nil || strings.Contains(err.Error(), "127.0.0.1:1") || strings.Contains(err.Error(), "proxy") {
		t.Errorf("call: %v, want that greeter.invalid cannot be reached directly", err)
	}
}

func TestR12_ServiceConfigs(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.registerAll("a", "b")
	// The limit that a request exceeds tells which config is in force.
	limit := func(bytes int) string {
		return fmt.Sprintf(`{"methodConfig":[{"name":[{}],"maxRequestMessageBytes":%d}]}`, bytes)
	}
	inForce := func(conn *grpc.ClientConn, want int) {
		t.Helper()
		kit.Eventually(t, soon, fmt.Sprintf("a limit of %d bytes", want), func() bool {
			_, err := basic.NewGreeterClient(conn).SayHello(kit.Bounded(t, soon), &basic.HelloRequest{Name: strings.Repeat("x", 1000)})
			return strings.Contains(fmt.Sprint(err), fmt.Sprintf(" vs. %d)", want))
		})
	}
	desc := basic.Greeter_EtcdServiceDesc
	desc.ServiceConfig = limit(10)
	generated, callers := dial(t, w.registry, &desc), dial(t, w.registry, &desc, runtime.WithDefaultServiceConfig(limit(30)))
	disabled := dial(t, w.registry, &desc, grpc.WithDisableServiceConfig())
	inForce(generated, 10)
	inForce(callers, 30)

	must(t, w.registry.SetServiceConfig(kit.Bounded(t, soon), key, limit(60)))
	inForce(generated, 60)
	inForce(callers, 60)
	inForce(disabled, 10)
	reached(t, callers, soon, "a", "b") // still round robin

	if err := w.registry.SetServiceConfig(kit.Bounded(t, soon), key, `{"loadBalancingConfig":[{"nope":{}}]}`); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Errorf("setting a bad config: %v, want an error that names what is bad", err)
	}
	w.put(configKey, `{"methodConfig":[{"timeout":"0.2s"}]}`) // around the check
	kit.Eventually(t, soon, "the bad config is reported", func() bool { return w.logs.Count("bad live service config") > 0 })
	inForce(callers, 60)

	must(t, w.registry.SetServiceConfig(kit.Bounded(t, soon), key, ""))
	inForce(generated, 10)
	inForce(callers, 30)
	reached(t, generated, soon, "a", "b")
}

func TestR13_CallsUnderWayOnAWithdrawnEndpoint(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a")
	holding, release := make(chan struct{}), make(chan struct{})
	w.register(w.start(&server{name: "b", do: func(ctx context.Context) error {
		if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("hold")) > 0 {
			close(holding)
			<-release
		}
		return nil
	}}))
	conn := w.conn()
	reached(t, conn, soon, "a", "b")
	held := make(chan error, 1)
	go func() {
		ctx := metadata.AppendToOutgoingContext(runtime.WithTarget(kit.Bounded(t, soon), "b"), "hold", "1")
		name, err := call(ctx, conn)
		if name != "b" && err == nil {
			err = fmt.Errorf("answered by %q", name)
		}
		held <- err
	}()
	<-holding
	w.delete(key + "/b")
	reached(t, conn, soon, "a")
	close(release)
	if err := <-held; err != nil {
		t.Errorf("the call under way: %v, want it to finish", err)
	}
}

// certified returns the credentials of a server with a new certificate, which callers trust by roots.
func certified(t *testing.T, roots *x509.CertPool, name string) grpc.ServerOption {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	roots.AddCert(certificate)
	return grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}))
}

// TestR14_HostileContentAndTLS has impostors in etcd. One whose certificate callers trust, but for another name, gets no
// call, and neither does one that speaks plaintext. Nothing in an entry changes the name.
func TestR14_HostileContentAndTLS(t *testing.T) {
	w := newWorld(t, nil)
	roots := x509.NewCertPool()
	var stolen atomic.Int64
	thief := func(context.Context) error { stolen.Add(1); return nil }
	honest := w.register(w.serve("honest", certified(t, roots, "helloworld.greeter")))
	conn := w.conn(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})))
	reached(t, conn, soon, "honest")
	for i, impostor := range []*server{w.start(&server{do: thief}, certified(t, roots, "evil.example")), w.start(&server{do: thief})} {
		for j, more := range []string{``, `,"ServerName":"evil.example"`,
			`,"Metadata":{"ServerName":"evil.example","authority":"evil.example","insecure":true,"weight":4294967295}`} {
			w.put(fmt.Sprintf("%s/evil-%d-%d", key, i, j), fmt.Sprintf(`{"Addr":%q%s}`, impostor.addr, more))
		}
	}
	for range 200 {
		if name, err := within(conn, soon); err != nil || name != "honest" {
			t.Fatalf("a call beside impostors: %q, %v", name, err)
		}
	}
	w.delete(key + "/honest")
	honest.stop()
	kit.Eventually(t, soon, "calls fail for want of a server with the right certificate", func() bool {
		_, err := within(conn, soon)
		return err != nil && strings.Contains(err.Error(), "authentication handshake failed")
	})
	if n := stolen.Load(); n > 0 {
		t.Errorf("%d calls reached an impostor", n)
	}
	if _, err := w.registry.NewClient(greeterAt(key)); err == nil || !strings.Contains(err.Error(), "transport") {
		t.Errorf("without credentials: %v, want gRPC's error", err)
	}
}

// bare returns a connection to a target, by gRPC's own means.
func (w *world) bare(registry *runtime.Registry, target string) *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient(target, insecurely, grpc.WithResolvers(registry.Resolver()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestBareResolver(t *testing.T) {
	w := newWorld(t, nil)
	w.put("/services/greeter/a", w.serve("a").addr)
	lease := w.grant()
	w.put(fmt.Sprintf("/services/greeter%d", lease), w.serve("b").addr, clientv3.WithLease(lease))
	reached(t, w.bare(w.registry, "etcd:////services/greeter"), soon, "a")
	reached(t, w.bare(w.registry, "etcd:////services/greeter?layout=lease_suffix"), soon, "a", "b")
}

// TestP11_QuestionableTargets refuses what a target says beyond a key and one layout.
func TestP11_QuestionableTargets(t *testing.T) {
	w := newWorld(t, nil)
	for target, want := range map[string]string{
		"etcd:///acme/user#2":                                "#",
		"etcd:///acme/user?layout=plain&layout=lease_suffix": "layout",
		"etcd:///acme/user?layout=":                          "layout",
		"etcd:///nobody":                                     "nobody",
		"etcd:///x?layout=nope":                              "nope",
		"etcd:///x?nope=1":                                   "nope",
		"etcd://caller/callee":                               "three slashes",
		"etcd:///a//b":                                       "double slash",
		"etcd:///_grpc_config/a":                             "_grpc_config",
		"etcd:///a%20b?layout=endpoint":                      "white space",
		"etcd:///x?layout=endpoint&a=%zz":                    "invalid URL escape",
	} {
		if _, err := within(w.bare(w.registry, target), soon); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want Unavailable with %q", target, err, want)
		}
	}
}

// TestResolverAmongTheOptions does not replace the client's own resolver, which knows the authority.
func TestResolverAmongTheOptions(t *testing.T) {
	w := newWorld(t, nil)
	s := w.register(w.serve("a"))
	desc := basic.Greeter_EtcdServiceDesc
	desc.Authority = "greeter.example"
	reached(t, dial(t, w.registry, &desc, grpc.WithResolvers(w.registry.Resolver())), soon, "a")
	if got := s.headers.Load().(metadata.MD).Get(":authority"); len(got) != 1 || got[0] != "greeter.example" {
		t.Errorf("the server saw the authority %v", got)
	}
}
