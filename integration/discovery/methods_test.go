package discovery

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// newer is the greeter's description with a method more.
func newer() *grpc.ServiceDesc {
	desc := basic.Greeter_ServiceDesc
	desc.Methods = append(desc.Methods[:len(desc.Methods):len(desc.Methods)], desc.Methods[0])
	desc.Methods[len(desc.Methods)-1].MethodName = "SayBye"
	return &desc
}

// serve runs a runtime.Server until the returned function is called, which drains it.
func (f *fleet) serve(name string, desc *grpc.ServiceDesc, setup func(*runtime.Server), opts ...runtime.RegisterOption) (stop func()) {
	f.t.Helper()
	lis := kit.Listen(f.t)
	s := f.newRegistry().NewServer(grpc.NewServer(), runtime.WithDrainDelay(50*time.Millisecond))
	s.RegisterService(desc, &backend{name: name})
	s.Publish(&basic.Greeter_EtcdServiceDesc, append(opts, runtime.WithInstance(name))...)
	if setup != nil {
		setup(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, lis) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("%s: %v", name, err)
		}
	})
	f.t.Cleanup(stop)
	return stop
}

// TestMethodsOfARollout adds a method to one server after the other: no call of it reaches a server
// that lacks it.
func TestMethodsOfARollout(t *testing.T) {
	f := newFleet(t)
	old := map[string]func(){}
	for _, name := range []string{"a", "b", "c"} {
		old[name] = f.serve(name, &basic.Greeter_ServiceDesc, nil)
	}
	conn := f.client(policy(`{"round_robin":{}}`))
	only(t, conn, "a", "b", "c")
	bye := func() (string, error) {
		reply := &basic.HelloReply{}
		err := conn.Invoke(kit.Bounded(t, soon), "/basic.Greeter/SayBye", &basic.HelloRequest{}, reply)
		return reply.GetMessage(), err
	}
	if _, err := bye(); status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that no server has: %v, want Unimplemented", err)
	}
	for _, name := range []string{"a", "b", "c"} {
		old[name]()
		f.serve(name, newer(), nil, runtime.WithVersion("v2"))
		kit.Eventually(t, soon, "the method is served by the newer server", func() bool {
			got, err := bye()
			return err == nil && got == name
		})
		for range 50 {
			if _, err := bye(); err != nil {
				t.Fatalf("with %s renewed: %v", name, err)
			}
		}
		only(t, conn, "a", "b", "c") // other methods go to all
	}
}

func TestServersAnswerHealth(t *testing.T) {
	f := newFleet(t)
	f.serve("a", &basic.Greeter_ServiceDesc, nil)
	conn := f.client("")
	only(t, conn, "a")
	for service, want := range map[string]codes.Code{"": codes.OK, "basic.Greeter": codes.OK, "nobody": codes.NotFound} {
		reply, err := healthpb.NewHealthClient(conn).Check(kit.Bounded(t, soon), &healthpb.HealthCheckRequest{Service: service})
		if status.Code(err) != want || err == nil && reply.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, reply, err)
		}
	}
}

// TestAnnounceTimeout has Serve end when etcd does not take the service in time.
func TestAnnounceTimeout(t *testing.T) {
	f := newFleet(t)
	registry := f.newRegistry()
	f.etcd.Cut()
	t.Cleanup(f.etcd.Restore)
	lis := kit.Listen(t)
	s := registry.NewServer(grpc.NewServer(), runtime.WithAnnounceTimeout(200*time.Millisecond), runtime.WithDrainDelay(time.Millisecond))
	basic.RegisterGreeterServerToEtcd(s, &backend{})
	if err := s.Serve(kit.Bounded(t, soon), lis); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("Serve: %v, want that %q could not be announced", err, key)
	}
}

// TestHealthTellsOfTheRegistration asks the health service whether etcd has the server.
func TestHealthTellsOfTheRegistration(t *testing.T) {
	f := newFleet(t)
	f.serve("a", &basic.Greeter_ServiceDesc, nil)
	conn := f.client("")
	is := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		kit.Eventually(t, soon, want.String(), func() bool {
			reply, err := healthpb.NewHealthClient(conn).Check(kit.Bounded(t, soon), &healthpb.HealthCheckRequest{Service: runtime.RegistrationHealth})
			return err == nil && reply.GetStatus() == want
		})
	}
	is(healthpb.HealthCheckResponse_SERVING)
	// Somebody else takes the entry: a conflict.
	if _, err := f.etcd.Admin().Put(kit.Bounded(t, soon), key+"/a", `{"Addr":"`+f.entry("a").Addr+`","Metadata":{"mine":"no"}}`); err != nil {
		t.Fatal(err)
	}
	is(healthpb.HealthCheckResponse_NOT_SERVING)
	if _, err := f.etcd.Admin().Delete(kit.Bounded(t, soon), key+"/a"); err != nil {
		t.Fatal(err)
	}
	is(healthpb.HealthCheckResponse_SERVING)
}

// entry is an instance's endpoint as etcd has it.
func (f *fleet) entry(name string) runtime.Endpoint {
	f.t.Helper()
	for set, err := range f.registry.Watch(kit.Bounded(f.t, soon), key) {
		must(f.t, err)
		for _, e := range set {
			if e.Instance == name {
				return e
			}
		}
	}
	f.t.Fatalf("%s is not in etcd", name)
	return runtime.Endpoint{}
}
