package discovery

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/statuspage"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// page returns the text of the status page.
func page(t *testing.T, registry *runtime.Registry) string {
	t.Helper()

	w := httptest.NewRecorder()
	statuspage.Handler(registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))

	if w.Code != http.StatusOK {
		t.Errorf("HTTP status of the page: %d, want 200", w.Code)
	}

	return w.Body.String()
}

// Status and the status page show the drained, held and leaving instances.
func TestStatus_ShowsDrainedHeldLeaving(t *testing.T) {
	w := newWorld(t, nil)
	for name, addr := range map[string]string{
		"a": "10.0.0.1:97",
		"b": "10.0.0.1:98",
		"c": "10.0.0.1:99",
	} {
		w.put(key+"/"+name, addr)
	}

	w.put(key+"/d", `{"Addr":"10.0.0.1:100","Metadata":{"grpc_leaving":"true"}}`)
	w.put(configKey, `{"loadBalancingConfig":[{"etcd":{"drain":["b","10.0.0.1:99"]}}]}`)
	w.conn().Connect()

	is := func(what string, ok func(runtime.KeyStatus) bool) {
		t.Helper()
		kit.Eventually(t, what, func() bool { return ok(w.status()) })
	}

	is("two of three endpoints are drained", func(k runtime.KeyStatus) bool {
		return len(k.Endpoints) == 3 &&
			slices.Equal(k.DrainedAddrs, []string{"10.0.0.1:98", "10.0.0.1:99"})
	})

	is("the endpoint d is leaving", func(k runtime.KeyStatus) bool {
		return len(k.Leaving) == 1 && k.Leaving[0].Instance == "d"
	})
	w.delete(key+"/", clientv3.WithPrefix())

	is("three endpoints that vanished are held", func(k runtime.KeyStatus) bool {
		return k.Held == 3 &&
			slices.Equal(k.HeldAddrs, []string{"10.0.0.1:97", "10.0.0.1:98", "10.0.0.1:99"})
	})

	is("no endpoint is leaving", func(k runtime.KeyStatus) bool { return len(k.Leaving) == 0 })

	s := w.registry.Status()
	if s.Etcd.Err != nil || !slices.Equal(s.Etcd.Endpoints, w.etcd.Endpoints()) {
		t.Errorf("status of etcd: %+v, want no error and the endpoints %v", s.Etcd,
			w.etcd.Endpoints())
	}

	w.etcd.Cut()
	kit.Eventually(t, "the page shows that etcd is down", func() bool {
		text := page(t, w.registry)

		return strings.Contains(text, `"error": "`) &&
			strings.Count(text, `"held": true`) == 3 &&
			strings.Count(text, `"drained": true`) == 2
	})
}

// announced starts a greeter with the instance id "server", which serves until
// the test ends. It returns the server's address once the server is registered.
func (w *world) announced(r *runtime.Registry, desc *runtime.ServiceDesc) string {
	w.t.Helper()

	lis := kit.Listen(w.t)
	s := r.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	basic.RegisterGreeterServer(s, &server{name: "server"})
	s.Publish(desc, runtime.WithInstance("server"))
	stop := kit.Run(w.t, func(ctx context.Context) error { return s.Serve(ctx, lis) })
	w.t.Cleanup(func() { kit.Must(w.t, stop()) })
	kit.Registered(w.t, s)

	return lis.Addr().String()
}

// TestServersAnswerHealth asks a server's health service for the status of
// services, and for that of its registration.
func TestServersAnswerHealth(t *testing.T) {
	w := newWorld(t, nil)
	addr := w.announced(w.registry, greeterAt(key))
	conn := w.conn()

	check := func(service string) (healthpb.HealthCheckResponse_ServingStatus, error) {
		reply, err := healthpb.NewHealthClient(conn).Check(kit.Context(t),
			&healthpb.HealthCheckRequest{Service: service})
		return reply.GetStatus(), err
	}
	for service, want := range map[string]codes.Code{
		"":              codes.OK,
		"basic.Greeter": codes.OK,
		"nobody":        codes.NotFound,
	} {
		got, err := check(service)
		if status.Code(err) != want || err == nil && got != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: status %v, error %v, want code %v", service, got, err, want)
		}
	}

	registered := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		kit.Eventually(t, want.String(), func() bool {
			got, err := check(runtime.RegistrationHealth)
			return err == nil && got == want
		})
	}

	registered(healthpb.HealthCheckResponse_SERVING)

	// another process takes the entry
	w.put(key+"/server", fmt.Sprintf(`{"Addr":%q,"Metadata":{"mine":"no"}}`, addr))
	registered(healthpb.HealthCheckResponse_NOT_SERVING)
	w.delete(key + "/server")
	registered(healthpb.HealthCheckResponse_SERVING)
}

// TestAnnounceTimeout checks that Serve fails if etcd cannot be reached within
// the announce timeout.
func TestAnnounceTimeout(t *testing.T) {
	w := newWorld(t, nil)
	w.etcd.Cut()
	s := w.registry.NewServer(grpc.NewServer(), runtime.WithAnnounceTimeout(200*time.Millisecond),
		runtime.WithDrainDelay(time.Millisecond))
	basic.RegisterGreeterServerToEtcd(s, &server{})

	err := s.Serve(kit.Context(t), kit.Listen(t))
	if err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("Serve: %v, want an error that names %q", err, key)
	}

	w.etcd.Restore()
}
