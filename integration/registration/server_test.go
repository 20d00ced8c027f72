package registration

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

type greeter struct {
	basic.UnimplementedGreeterServer
}

// TestAdvertisedAddress starts servers that listen on all addresses. A server
// announces the local address of its connection to etcd, or that of an option
// or of the environment (G8). Only one server of a process can announce the
// latter.
func TestAdvertisedAddress(t *testing.T) {
	w := newWorld(t, nil)
	announced := func(want string, opts ...runtime.ServerOption) {
		t.Helper()

		lis, err := net.Listen("tcp", "0.0.0.0:0")
		kit.Must(t, err)

		s := w.registry.NewServer(grpc.NewServer(), append(opts, runtime.WithDrainDelay(0))...)
		basic.RegisterGreeterServerToEtcd(s, greeter{})
		stop := kit.Run(t, func(ctx context.Context) error { return s.Serve(ctx, lis) })
		t.Cleanup(func() { kit.Must(t, stop()) })
		kit.Registered(t, s)

		_, port, err := net.SplitHostPort(lis.Addr().String())
		kit.Must(t, err)
		want = strings.ReplaceAll(want, "PORT", port)

		got := w.get(key + "/" + want)
		if got == nil || !strings.Contains(got.value, `"`+want+`"`) {
			t.Errorf("keys in etcd: %v, want %s/%s, with the address in its value", w.keys(key),
				key, want)
		}
	}

	announced("127.0.0.1:PORT")
	announced("svc.local:80", runtime.WithAdvertiseAddress("svc.local:80"))
	t.Setenv("GRPC_ADVERTISE_ADDR", "10.1.2.3:9000")
	announced("10.1.2.3:9000")

	lis := kit.Listen(t)
	second := w.registry.NewServer(grpc.NewServer())
	second.Publish(&runtime.ServiceDesc{Name: "acme.Other", Key: "acme/other"})

	err := second.Serve(kit.Context(t), lis)
	for _, text := range []string{"GRPC_ADVERTISE_ADDR", "10.1.2.3:9000", lis.Addr().String(),
		"WithAdvertiseAddress"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("Serve of the second server: %v, want an error with %q", err, text)
		}
	}

	if keys := w.keys("acme/other"); len(keys) > 0 {
		t.Errorf("keys of the second server: %v, want none", keys)
	}
}

// TestWithdraw_IsBounded withdraws a server of two services while etcd does not
// answer, with a context that does not end. The bound is for both together.
func TestWithdraw_IsBounded(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	s := w.registry.NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(s, greeter{})
	s.Publish(&runtime.ServiceDesc{Name: "acme.Other", Key: "acme/other"})
	kit.Must(t, s.Announce(kit.Context(t), addr(0)))
	w.etcd.Pause()

	// if the bound is for each service, Withdraw then has an error for one
	// alone
	defer time.AfterFunc(8*time.Second, w.etcd.Resume).Stop()

	err := s.Withdraw(t.Context())
	if !errors.Is(err, context.DeadlineExceeded) || strings.Count(err.Error(), "expires") != 2 {
		t.Errorf("Withdraw: %v, want DeadlineExceeded, and \"expires\" twice", err)
	}
}

func TestMain(m *testing.M) {
	os.Exit(leak.Main(4, m.Run))
}

func TestSteadyStateIsSilent(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	since := g.Status().Since

	// Register may return just before the line is logged.
	kit.Eventually(t, "one log line for one registration", func() bool {
		return w.logs.Count("msg=") == 1
	})

	// the put, and then a check of the key
	kit.Must(t, w.etcd.Calls().Wait(kit.Context(t), "Txn", "", 2))

	if n := w.logs.Count("msg="); n != 1 || g.Status().Since != since {
		t.Errorf("%d log lines, registered since %v; want 1 line and %v: %v", n, g.Status().Since,
			since, w.logs.Lines())
	}

	w.revoke(g.Status().LeaseID)
	kit.Eventually(t, "the second registration is logged", func() bool {
		return w.logs.Count("state=registered") == 2
	})

	if w.logs.Count("level=WARN") != 1 ||
		w.logs.Count("state=lost") != 1 ||
		w.logs.Count(entry) != 3 {
		t.Errorf(
			"log of a lost lease: %v, want one warning, one line with state=lost, and three with %s",
			w.logs.Lines(), entry)
	}
}

// If the health service has no status for a service with healthCheckConfig, or
// is registered on the gRPC server, where the registry cannot read it, an error
// in the status and a log line say so.
func TestQuestionableHealthService_Warns(t *testing.T) {
	leak.Parallel(t)

	const unset = `SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVING)`
	const elsewhere = "healthpb.RegisterHealthServer(server, healthServer)"

	h := health.NewServer()
	for _, cure := range []string{unset, elsewhere} {
		w := newWorld(t, nil)
		g := grpc.NewServer()
		s := w.registry.NewServer(g)

		if cure == unset {
			healthpb.RegisterHealthServer(s, h)
		} else {
			healthpb.RegisterHealthServer(g, h)
		}

		basic.RegisterGreeterServer(s, greeter{})

		s.Publish(&runtime.ServiceDesc{
			Name:          "basic.Greeter",
			Key:           key,
			ServiceConfig: `{"healthCheckConfig":{"serviceName":"basic.Greeter"}}`,
		})

		kit.Must(t, s.Announce(kit.Context(t), addr(0)))

		st := s.Status()[0]
		if st.State != runtime.StateRegistered ||
			st.Err == nil ||
			!strings.Contains(st.Err.Error(), cure) {
			t.Errorf("state %s, error %v, want registered, and an error with %q", st.State, st.Err,
				cure)
		}

		if cure == unset {
			h.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVING)
			kit.Eventually(t, "the error is gone", func() bool { return s.Status()[0].Err == nil })
			h.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
			kit.Eventually(t, "the error is back", func() bool { return s.Status()[0].Err != nil })
		}

		if n := w.logs.Count("questionable health service"); n != 1 {
			t.Errorf("%d warnings, want 1", n)
		}

		kit.Must(t, s.Withdraw(kit.Context(t)))
	}
}
