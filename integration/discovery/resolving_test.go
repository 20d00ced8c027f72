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
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin" // a policy of another package
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// A process that starts while etcd is down uses its snapshot (R7). If the
// snapshot is corrupt, its calls wait for etcd, and end at their deadline with
// an error that names etcd (R1).
func TestEtcdDown_SnapshotServes(t *testing.T) {
	leak.Parallel(t)
	dir := t.TempDir()
	w := newWorld(t, nil, runtime.WithSnapshotDir(dir))
	w.registerAll("a", "drained")
	kit.Must(t, w.registry.SetServiceConfig(kit.Context(t), key,
		`{"loadBalancingConfig":[{"etcd":{"drain":["drained"]}}]}`))
	reached(t, w.conn(), "a")
	kit.Must(t, w.registry.Close(kit.Context(t)))
	w.etcd.Cut()
	w.registry = w.newRegistry(w.etcd.Client(t), runtime.WithSnapshotDir(dir))
	reached(t, w.conn(), "a")

	if seen, err := round(w.conn(), 10); !slices.Equal(seen, []string{"a"}) {
		t.Errorf("calls reach %v, error %v, want only a, as the other is drained", seen, err)
	}

	if w.logs.Count("age=") != 1 {
		t.Errorf("%d log lines have the age of the snapshot, want 1", w.logs.Count("age="))
	}

	files, err := filepath.Glob(dir + "/*.json")
	if err != nil || len(files) != 1 {
		t.Fatalf("files of snapshots: %v, error %v, want one file", files, err)
	}

	kit.Must(t, os.WriteFile(files[0], []byte("{"), 0o600))
	w.registry = w.newRegistry(w.etcd.Client(t), runtime.WithSnapshotDir(dir))
	_, err = call(kit.Bounded(t, time.Second), w.conn())

	_, err2 := w.instances().All(kit.Bounded(t, time.Second))
	for _, err := range []error{err, err2} {
		if status.Code(err) != codes.DeadlineExceeded ||
			!strings.Contains(err.Error(), "etcd") ||
			!strings.Contains(err.Error(), key) {
			t.Errorf("a call, or All, with a corrupt snapshot: %v, want DeadlineExceeded with \"etcd\" and %q", err, key)
		}
	}

	kit.Eventually(t, "the corrupt file is reported", func() bool {
		return w.logs.Count("cannot be used") == 1
	})
	w.etcd.Restore()
	reached(t, w.conn(), "a")
}

// While etcd hangs, Close of a registry without entries returns, and leaves no
// goroutine (R3). If the registry has an entry, calls on the registry's
// connections succeed until the entry is deleted, because the handlers of the
// registered server may make calls.
func TestClose_WhileEtcdHangs(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a")
	registry := w.newRegistry(w.etcd.Client(t))
	_, err := registry.Register(kit.Context(t), "acme/front", runtime.Endpoint{Addr: "127.0.0.1:1"})
	kit.Must(t, err)
	conn := dial(t, registry, greeterAt(key))
	reached(t, conn, "a")
	w.etcd.Pause()
	unknown := w.newRegistry(w.etcd.Client(t))
	dial(t, unknown, greeterAt(key)).Connect() // starts a list that etcd does not answer
	kit.Must(t, unknown.Close(kit.Context(t)))
	closed := make(chan error, 1)
	go func() { closed <- registry.Close(kit.Context(t)) }()

	kit.Eventually(t, "the registry is being closed", func() bool {
		_, err := registry.NewClient(greeterAt(key), kit.Insecure)
		return err != nil
	})

	for range 100 {
		if _, err := once(conn); err != nil {
			t.Fatalf("a call while the entry is in etcd: %v, want success", err)
		}
	}

	w.etcd.Resume()
	kit.Must(t, <-closed)
	leak.None(t)

	if entry := w.get("acme/front/127.0.0.1:1"); entry != nil {
		t.Errorf("etcd has the entry %s after Close, want none", *entry)
	}

	if _, err := once(conn); status.Code(err) != codes.Canceled {
		t.Errorf("a call after Close: %v, want Canceled", err)
	}
}

// After the leases of all instances were revoked, connections, Watch and Status
// keep the endpoints for the grace (R5, K1). Instances.All leaves them out.
func TestHeld_EveryReaderSeesOneState(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	lease := w.grant()
	for _, name := range []string{"a", "b"} {
		w.put(key+"/"+name, fmt.Sprintf(`{"Addr":%q}`, w.serve(name).addr),
			clientv3.WithLease(lease))
	}

	brief := w.newRegistry(w.client, runtime.WithEmptyGrace(2*time.Second))
	conn := w.conn()
	sets := w.watch(key)
	briefly := w.watchAs(brief, key)
	instances := w.instances()
	reached(t, conn, "a", "b")

	for _, c := range []<-chan []runtime.Endpoint{sets, briefly} {
		if got := ids(<-c); got != "a b" {
			t.Fatalf("a watch yields %q, want \"a b\"", got)
		}
	}

	_, err := w.etcd.Admin().Revoke(kit.Context(t), lease)
	kit.Must(t, err)

	if got := ids(<-briefly); got != "" {
		t.Errorf("Watch yields %q after a grace of 2 s, want an empty set", got)
	}

	// The default grace is 30 s.
	kit.Eventually(t, "both endpoints are held", func() bool { return w.status().Held == 2 })

	if got := ids(w.status().Endpoints); got != "a b" {
		t.Errorf("the status has the endpoints %q, want \"a b\"", got)
	}

	if all, err := instances.All(kit.Context(t)); err != nil || len(all) != 0 {
		t.Errorf("All: instances %v, error %v, want none while all are held", all, err)
	}

	reached(t, conn, "a", "b")

	select {
	case set := <-sets:
		t.Errorf("Watch yields %q within a grace of 30 s, want nothing", ids(set))
	default:
	}
}

// An instance whose entry was marked as leaving is not held, and Instances.All
// leaves it out. The instance may return at another address (K3).
func TestOrderlyLeave_IsNotHeld(t *testing.T) {
	w := newWorld(t, nil)
	first := w.register(w.serve("a"))
	conn := w.conn()
	reached(t, conn, "a")
	w.put(key+"/a", fmt.Sprintf(`{"Addr":%q,"Metadata":{"grpc_leaving":"true"}}`, first.addr))
	w.delete(key + "/a")
	kit.Eventually(t, "the deletion of the entry is known", func() bool {
		return w.status().Known && len(w.status().Endpoints) == 0
	})

	all, allErr := w.instances().All(kit.Context(t))
	if _, err := once(conn); err != nil || allErr != nil || len(all) != 0 {
		t.Errorf("a call while the instance still serves: %v, want success; All: instances %v, error %v, want none",
			err, all, allErr)
	}

	first.stop()
	kit.Eventually(t, "calls fail at once, naming the key", func() bool {
		_, err := once(conn)
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), key)
	})

	w.registerAll("a")
	reached(t, conn, "a")
}

// A call under way finishes after the entry of its server was deleted (R13).
func TestWithdrawn_CallsUnderWayFinish(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a")
	holding := make(chan struct{})
	release := make(chan struct{})
	w.register(w.start(&server{name: "b", do: func(ctx context.Context) error {
		if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("hold")) > 0 {
			close(holding)
			<-release
		}

		return nil
	}}))

	conn := w.conn()
	reached(t, conn, "a", "b")
	held := make(chan error, 1)
	go func() {
		ctx := metadata.AppendToOutgoingContext(runtime.WithTarget(kit.Context(t), "b"), "hold",
			"1")
		name, err := call(ctx, conn)
		if name != "b" && err == nil {
			err = fmt.Errorf("answered by %q, want \"b\"", name)
		}

		held <- err
	}()

	<-holding
	w.delete(key + "/b")
	reached(t, conn, "a")
	close(release)

	if err := <-held; err != nil {
		t.Errorf("the call under way: %v, want success", err)
	}
}

// Calls ignore HTTPS_PROXY (R11). The test runs itself in a process with that
// variable, which net/http reads only once.
func TestProxy_IsNotUsed(t *testing.T) {
	if os.Getenv("HTTPS_PROXY") == "" {
		cmd := exec.CommandContext(kit.Context(t), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=")

		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("run this test in another process: %v\n%s", err, out)
		}

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

	reached(t, conn, "a")

	if addr := <-dialled; addr != "greeter.invalid:80" {
		t.Errorf("dialled %q, want \"greeter.invalid:80\"", addr)
	}

	// Without a custom dialer the connection goes to greeter.invalid, too.
	_, err := call(kit.Context(t), w.conn())
	if err == nil ||
		strings.Contains(err.Error(), "127.0.0.1:1") ||
		strings.Contains(err.Error(), "proxy") {
		t.Errorf("call: %v, want an error that does not name the proxy", err)
	}
}

// certified makes a certificate for name, adds it to the roots, and returns
// server credentials with it.
func certified(t *testing.T, roots *x509.CertPool, name string) grpc.ServerOption {
	t.Helper()

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	kit.Must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	kit.Must(t, err)
	certificate, err := x509.ParseCertificate(der)
	kit.Must(t, err)
	roots.AddCert(certificate)

	return grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{
		Certificate: [][]byte{der},
		PrivateKey:  private,
	}))
}

// Servers without a certificate for the service's name get no calls, even if
// they have entries (R14). No entry changes that name.
func TestTLS_IgnoresEtcd(t *testing.T) {
	w := newWorld(t, nil)
	roots := x509.NewCertPool()
	var stolen atomic.Int64
	thief := func(context.Context) error {
		stolen.Add(1)
		return nil
	}

	honest := w.register(w.serve("honest", certified(t, roots, "helloworld.greeter")))

	conn := w.conn(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs:    roots,
		MinVersion: tls.VersionTLS12,
	})))

	reached(t, conn, "honest")

	for i, impostor := range []*server{
		w.start(&server{do: thief}, certified(t, roots, "evil.example")),
		w.start(&server{do: thief})} {
		for j, more := range []string{``, `,"ServerName":"evil.example"`,
			`,"Metadata":{"ServerName":"evil.example","authority":"evil.example","insecure":true,"weight":4294967295}`} {
			w.put(fmt.Sprintf("%s/evil-%d-%d", key, i, j),
				fmt.Sprintf(`{"Addr":%q%s}`, impostor.addr, more))
		}
	}

	for range 200 {
		if name, err := once(conn); err != nil || name != "honest" {
			t.Fatalf("a call with impostors in etcd: answered by %q, error %v, want \"honest\"",
				name, err)
		}
	}

	w.delete(key + "/honest")
	honest.stop()

	kit.Eventually(t, "calls fail with \"authentication handshake failed\"", func() bool {
		_, err := once(conn)
		return err != nil && strings.Contains(err.Error(), "authentication handshake failed")
	})

	if n := stolen.Load(); n > 0 {
		t.Errorf("%d calls reached an impostor, want none", n)
	}

	_, err := w.registry.NewClient(greeterAt(key))
	if err == nil || !strings.Contains(err.Error(), "transport") {
		t.Errorf("NewClient without credentials: %v, want an error with \"transport\"", err)
	}
}

// bare returns a connection to a target, made by grpc.NewClient with the
// registry's resolver.
func (w *world) bare(registry *runtime.Registry, target string) *grpc.ClientConn {
	w.t.Helper()

	conn, err := grpc.NewClient(target, kit.Insecure, grpc.WithResolvers(registry.Resolver()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	kit.Must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })

	return conn
}

// A target must be a valid key with at most one layout. Calls to any other
// target fail, and the error gives the reason (P11).
func TestResolver_RefusesQuestionableTargets(t *testing.T) {
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
		_, err := once(w.bare(w.registry, target))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want Unavailable with %q", target, err, want)
		}
	}
}

// A connection of grpc.NewClient with the registry's resolver can use a policy
// of another package. If it disables service configs, a live config does not
// replace that policy (P4).
func TestResolver_ForPoliciesOfOthers(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a", "b")
	w.put(configKey, `{"loadBalancingConfig":[{"etcd":{"drain":["a"]}}]}`)
	reached(t, w.conn(), "b")
	conn, err := grpc.NewClient("etcd:///"+key, kit.Insecure, grpc.WithResolvers(
		w.registry.Resolver()), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"weighted_round_robin":{}}]}`))
	kit.Must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	reached(t, conn, "a", "b")
}

// A resolver in the dial options of NewClient does not replace NewClient's own
// resolver, which knows the service's authority.
func TestResolverAmongTheOptions(t *testing.T) {
	w := newWorld(t, nil)
	s := w.register(w.serve("a"))
	desc := basic.Greeter_EtcdServiceDesc
	desc.Authority = "greeter.example"
	reached(t, dial(t, w.registry, &desc, grpc.WithResolvers(w.registry.Resolver())), "a")

	got := s.headers.Load().(metadata.MD).Get(":authority")
	if len(got) != 1 || got[0] != "greeter.example" {
		t.Errorf("the request had the authority %v, want greeter.example", got)
	}
}
