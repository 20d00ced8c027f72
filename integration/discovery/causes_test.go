package discovery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// failure is one way in which a process cannot use etcd.
type failure struct {
	name    string
	cluster []etcdtest.Option
	client  func(t *testing.T, etcd *etcdtest.Cluster) *clientv3.Client
	want    []string // texts that name the cause
}

var caller = etcdtest.WithAuth("secret", etcdtest.User{Name: "caller", Password: "p"})

// with returns a function that makes an etcd client with a configuration that
// change has edited.
func with(
	change func(*testing.T, *clientv3.Config),
) func(*testing.T, *etcdtest.Cluster) *clientv3.Client {
	return func(t *testing.T, etcd *etcdtest.Cluster) *clientv3.Client {
		return etcd.Client(t, func(c *clientv3.Config) { change(t, c) })
	}
}

var failures = []failure{
	{"no rights", []etcdtest.Option{caller}, func(
		t *testing.T,
		etcd *etcdtest.Cluster,
	) *clientv3.Client {
		return etcd.Client(t, etcdtest.As("caller", "p"))
	}, []string{"permission denied", `etcd user "caller"`}},
	{"nothing listens", nil, with(func(t *testing.T, c *clientv3.Config) {
		c.Endpoints = []string{porttest.Refusing(t)}
	}),
		[]string{"connect: connection refused"}},
	{"etcd speaks TLS, the client does not", []etcdtest.Option{etcdtest.WithTLS()}, with(func(
		_ *testing.T,
		c *clientv3.Config,
	) {
		c.Endpoints = []string{strings.TrimPrefix(c.Endpoints[0], "https://")}
		c.TLS = nil
	}), []string{"error reading server preface"}},
	{"another CA", []etcdtest.Option{etcdtest.WithTLS()}, with(func(
		_ *testing.T,
		c *clientv3.Config,
	) {
		c.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	}), []string{"certificate signed by unknown authority"}},
	{"the client speaks TLS, etcd does not", nil, with(func(_ *testing.T, c *clientv3.Config) {
		c.Endpoints = []string{"https://" + strings.TrimPrefix(c.Endpoints[0], "http://")}
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}), []string{"authentication handshake failed"}},
	{"no user", []etcdtest.Option{caller}, with(func(_ *testing.T, c *clientv3.Config) {
		c.Username = ""
		c.Password = ""
	}),
		[]string{"user name is empty"}},
	{"a wrong password", []etcdtest.Option{caller}, func(
		t *testing.T,
		etcd *etcdtest.Cluster,
	) *clientv3.Client {
		client := etcd.Client(t, etcdtest.As("caller", "p"))
		_, err := etcd.Admin().UserChangePassword(kit.Context(t), "caller", "another")
		kit.Must(t, err)

		return client
	}, []string{"authentication failed, invalid user ID or password", `etcd user "caller"`}},
	{"a member that is never reached", nil, func(
		t *testing.T,
		etcd *etcdtest.Cluster,
	) *clientv3.Client {
		etcd.Pause()
		t.Cleanup(etcd.Resume)

		return etcd.Client(t)
	}, []string{"127.0.0.1", "does not answer"}},
	{"a member that hangs", nil, func(t *testing.T, etcd *etcdtest.Cluster) *clientv3.Client {
		client := etcd.Client(t)
		_, err := client.Get(kit.Context(t), "x")
		kit.Must(t, err)
		etcd.Pause()
		t.Cleanup(etcd.Resume)

		return client
	}, []string{"127.0.0.1", "does not answer"}},
	{"a client that the program has closed", nil, func(
		t *testing.T,
		etcd *etcdtest.Cluster,
	) *clientv3.Client {
		client := etcd.Client(t)
		kit.Must(t, client.Close())

		return client
	}, []string{"the etcd client was closed"}},
	{"a quorum that is lost", []etcdtest.Option{etcdtest.WithMembers(
		3)}, func(t *testing.T, etcd *etcdtest.Cluster) *clientv3.Client {
		etcd.Member(1).Stop()
		etcd.Member(2).Stop()

		return etcd.Client(t, func(c *clientv3.Config) {
			c.Endpoints = []string{etcd.Member(0).Endpoint()}
		})
	}, []string{"no leader"}},
}

// outage is a process that cannot use etcd.
type outage struct {
	t        *testing.T
	registry *runtime.Registry
	server   *runtime.Server // a running server
	conn     *grpc.ClientConn
	log      *kit.Logs
}

// logged returns the log lines that contain text.
func (o *outage) logged(text string) string {
	all := o.log.Lines()

	return strings.Join(slices.DeleteFunc(all, func(line string) bool {
		return !strings.Contains(line, text)
	}), "")
}

const failing = "acme/failing"

// places maps each place where a user may look for the cause to a function that
// returns its text.
var places = map[string]func(context.Context, *outage) string{
	"the error of a call": func(ctx context.Context, o *outage) string {
		_, err := healthpb.NewHealthClient(o.conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return fmt.Sprint(err)
	},
	"the error of Watch": func(ctx context.Context, o *outage) string {
		for _, err := range o.registry.Watch(ctx, failing) {
			if err != nil { // Watch first yields what a member without a quorum has
				return err.Error()
			}
		}

		return "none"
	},
	"the error of Register": func(ctx context.Context, o *outage) string {
		_, err := o.registry.Register(ctx, failing+"/registered",
			runtime.Endpoint{Addr: "10.0.0.1:1"})
		return fmt.Sprint(err)
	},
	"the error of Announce": func(ctx context.Context, o *outage) string {
		return fmt.Sprint(newServer(o.registry, failing+"/announced").Announce(ctx, "10.0.0.1:1"))
	},
	"the status of the key": func(_ context.Context, o *outage) string {
		for _, k := range o.registry.Status().Keys {
			return fmt.Sprint(k.Err)
		}

		return "none"
	},
	"the status of the server": func(_ context.Context, o *outage) string {
		for _, s := range o.server.Status() {
			return fmt.Sprint(s.Err)
		}

		return "none"
	},
	"the status page": func(_ context.Context, o *outage) string {
		return page(o.t, o.registry)
	},
	"the log of the key": func(_ context.Context, o *outage) string {
		return o.logged("etcd list failed")
	},
	"the log of the server": func(_ context.Context, o *outage) string {
		return o.logged(`level=WARN msg="etcd registration failing"`)
	},
}

// The status of a key names the cause of each failure (K11). For the first
// failure, every place names the cause.
func TestOutage_CauseIsNamed(t *testing.T) {
	for i, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			etcd := etcdtest.Start(t, f.cluster...)
			o := &outage{t: t, log: &kit.Logs{}}
			o.registry = kit.Registry(t, o.log, f.client(t, etcd))
			o.conn = dial(t, o.registry, &runtime.ServiceDesc{Name: "acme.User", Key: failing})
			o.conn.Connect()
			o.server = newServer(o.registry, failing+"/served", runtime.WithDrainDelay(0))
			lis := kit.Listen(t)

			// Serve may return an error, because etcd fails
			kit.Run(t, func(ctx context.Context) error { return o.server.Serve(ctx, lis) })

			for place, look := range places {
				if i > 0 && place != "the status of the key" {
					continue
				}

				t.Run(place, func(t *testing.T) {
					t.Parallel()
					kit.Eventually(t, fmt.Sprintf("%q is named", f.want), func() bool {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						defer cancel()

						return names(look(ctx, o), f.want)
					})
				})
			}
		})
	}
}

// names reports whether text contains all causes. Quotes in the text may be
// escaped.
func names(text string, causes []string) bool {
	text = strings.ReplaceAll(text, "\\", "")

	return !slices.ContainsFunc(causes, func(cause string) bool {
		return !strings.Contains(text, cause)
	})
}

// newServer returns a server that publishes gRPC's health service under a key.
func newServer(
	registry *runtime.Registry,
	key string,
	opts ...runtime.ServerOption,
) *runtime.Server {
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	server := registry.NewServer(s, opts...)
	server.Publish(&runtime.ServiceDesc{Name: "grpc.health.v1.Health", Key: key})

	return server
}
