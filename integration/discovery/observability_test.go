package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/statuspage"
)

// value reads the sum of a metric's points that have the attributes.
func value(t *testing.T, reader *metric.ManualReader, name string, want ...attribute.KeyValue) (sum float64, points int) {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, reader.Collect(context.Background(), &all))
	add := func(set attribute.Set, v float64) {
		for _, kv := range want {
			if got, ok := set.Value(kv.Key); !ok || got != kv.Value {
				return
			}
		}
		sum += v
		points++
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, p.Value)
				}
			}
		}
	}
	return sum, points
}

func TestMetrics(t *testing.T) {
	etcd := etcdtest.Start(t)
	reader := metric.NewManualReader()
	registry := runtime.NewRegistry(etcd.Client(t), runtime.WithLogger(slog.New(slog.DiscardHandler)),
		runtime.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	is := func(name string, want float64, attrs ...attribute.KeyValue) {
		t.Helper()
		kit.Eventually(t, soon, name, func() bool { got, _ := value(t, reader, name, attrs...); return got == want })
	}
	state := func(s runtime.State) attribute.KeyValue {
		return attribute.String("etcdrpc.registration.state", s.String())
	}

	registration, err := registry.Register(kit.Bounded(t, soon), "acme/user", runtime.Endpoint{Addr: "10.0.0.1:1"})
	must(t, err)
	is("etcdrpc.registration.count", 1, state(runtime.StateRegistered))
	if _, err := etcd.Admin().Delete(kit.Bounded(t, soon), "acme/user/10.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	is("etcdrpc.registration.restorations", 1)
	is("etcdrpc.registration.count", 1, state(runtime.StateRegistered))
	is("etcdrpc.registration.count", 0, state(runtime.StateLost))
	must(t, registration.Pause(kit.Bounded(t, soon)))
	is("etcdrpc.registration.count", 1, state(runtime.StatePaused))
	must(t, registration.Resume(kit.Bounded(t, soon)))

	conn, err := registry.NewClient(&runtime.ServiceDesc{Name: "acme.User", Key: "acme/user"}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	conn.Connect()
	key := attribute.String("etcdrpc.key", "acme/user")
	is("etcdrpc.endpoint.count", 1, key, attribute.String("etcdrpc.endpoint.state", "listed"))
	is("etcdrpc.discovery.status", 1, key, attribute.String("etcdrpc.discovery.state", "following"))
	is("etcdrpc.discovery.status", 0, key, attribute.String("etcdrpc.discovery.state", "stale"))
	if age, points := value(t, reader, "etcdrpc.endpoint.age", key); points != 1 || age < 0 || age > soon.Seconds() {
		t.Errorf("age %v of %d points", age, points)
	}
	if _, err := etcd.Admin().Put(kit.Bounded(t, soon), "acme/user/bad", "{"); err != nil {
		t.Fatal(err)
	}
	is("etcdrpc.discovery.malformed_values", 1, attribute.String("etcdrpc.range", "endpoints"))

	etcd.Cut()
	if _, err := etcd.Admin().Put(kit.Bounded(t, soon), "x", "y"); err != nil {
		t.Fatal(err)
	}
	if _, err := etcd.Compact(kit.Bounded(t, soon)); err != nil {
		t.Fatal(err)
	}
	etcd.Restore()
	kit.Eventually(t, soon, "a relist for compaction", func() bool {
		n, _ := value(t, reader, "etcdrpc.discovery.relists", attribute.String("error.type", "compacted"))
		return n > 0
	})
	if err := registry.Close(kit.Bounded(t, soon)); err != nil {
		t.Error(err)
	}
	if n, points := value(t, reader, "etcdrpc.endpoint.count"); points > 0 {
		t.Errorf("a closed registry still reports %v endpoints", n)
	}
	is("etcdrpc.registration.count", 0)
}

// lines is a log that tests read.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// with returns the lines that have a text.
func (l *lines) with(text string) string {
	var found []string
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "")
}

// TestMetrics_Namespaces tells keys of one name in two namespaces apart.
func TestMetrics_Namespaces(t *testing.T) {
	kit.Night(t)
	etcd := etcdtest.Start(t)
	if _, err := etcd.Admin().Put(kit.Bounded(t, soon), "prod/acme/user/a", "10.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	for _, namespace := range []string{"prod/", "test/"} {
		registry := runtime.NewRegistry(etcd.Client(t), runtime.WithNamespace(namespace), runtime.WithMeterProvider(provider))
		t.Cleanup(func() { registry.Close(context.Background()) })
		conn, err := registry.NewClient(&runtime.ServiceDesc{Name: "acme.User", Key: "acme/user"}, grpc.WithTransportCredentials(insecure.NewCredentials()))
		must(t, err)
		conn.Connect()
	}
	listed := attribute.String("etcdrpc.endpoint.state", "listed")
	for namespace, want := range map[string]float64{"prod/": 1, "test/": 0} {
		key := attribute.String("etcdrpc.key", namespace+"acme/user")
		kit.Eventually(t, soon, namespace, func() bool {
			got, points := value(t, reader, "etcdrpc.endpoint.count", key, listed)
			status, _ := value(t, reader, "etcdrpc.discovery.status", key, attribute.String("etcdrpc.discovery.state", "following"))
			return points == 1 && got == want && status == 1
		})
	}
}

func TestStatusPage(t *testing.T) {
	etcd := etcdtest.Start(t)
	registry := runtime.NewRegistry(etcd.Client(t), runtime.WithLogger(slog.New(slog.DiscardHandler)))
	defer registry.Close(kit.Bounded(t, soon))
	if _, err := registry.Register(kit.Bounded(t, soon), "acme/user", runtime.Endpoint{Instance: "a", Addr: "10.0.0.1:1"}, runtime.WithVersion("v1")); err != nil {
		t.Fatal(err)
	}
	conn, err := registry.NewClient(&runtime.ServiceDesc{Name: "acme.User", Key: "acme/user"}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	conn.Connect()
	var page struct {
		Keys []struct {
			Key, State  string
			Connections int
			Endpoints   []struct{ Instance, Addr, Version string }
		}
		Registrations []struct{ Key, State, Lease string }
	}
	kit.Eventually(t, soon, "the page shows the endpoint", func() bool {
		w := httptest.NewRecorder()
		statuspage.Handler(registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?format=json", nil))
		must(t, json.Unmarshal(w.Body.Bytes(), &page))
		return len(page.Keys) == 1 && len(page.Keys[0].Endpoints) == 1
	})
	k, r := page.Keys[0], page.Registrations
	if k.Key != "acme/user" || k.State != "following" || k.Connections != 1 || k.Endpoints[0].Version != "v1" {
		t.Errorf("the key is shown as %+v", k)
	}
	if len(r) != 1 || r[0].State != "registered" || r[0].Lease == "" {
		t.Errorf("the registrations are shown as %+v", r)
	}
}

// TestMarks has instances that are drained, held and leaving. Status and the page say which.
func TestMarks(t *testing.T) {
	etcd := etcdtest.Start(t)
	registry := runtime.NewRegistry(etcd.Client(t), runtime.WithLogger(slog.New(slog.DiscardHandler)))
	defer registry.Close(kit.Bounded(t, soon))
	const key = "acme/user"
	for _, name := range []string{"a", "b", "c"} {
		put(t, etcd.Admin(), key+"/"+name, object{"Addr": "10.0.0.1:" + strconv.Itoa(int(name[0]))})
	}
	put(t, etcd.Admin(), key+"/d", object{"Addr": "10.0.0.1:100", "Metadata": object{"grpc_leaving": "true"}})
	put(t, etcd.Admin(), "_grpc_config/"+key, object{"loadBalancingConfig": []object{{"etcd": object{"drain": []string{"b", "10.0.0.1:99"}}}}})
	conn, err := registry.NewClient(&runtime.ServiceDesc{Name: "acme.User", Key: key}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	conn.Connect()
	var s runtime.RegistryStatus
	is := func(what string, ok func(runtime.KeyStatus) bool) {
		t.Helper()
		kit.Eventually(t, soon, what, func() bool { s = registry.Status(); return len(s.Keys) == 1 && ok(s.Keys[0]) })
	}
	is("two of three are drained", func(k runtime.KeyStatus) bool {
		return len(k.Endpoints) == 3 && slices.Equal(k.DrainedAddrs, []string{"10.0.0.1:98", "10.0.0.1:99"})
	})
	is("one is leaving", func(k runtime.KeyStatus) bool { return len(k.Leaving) == 1 && k.Leaving[0].Instance == "d" })
	if _, err := etcd.Admin().Delete(kit.Bounded(t, soon), key+"/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	is("those that vanish are held", func(k runtime.KeyStatus) bool {
		return k.Held == 3 && slices.Equal(k.HeldAddrs, []string{"10.0.0.1:97", "10.0.0.1:98", "10.0.0.1:99"})
	})
	is("it has left", func(k runtime.KeyStatus) bool { return len(k.Leaving) == 0 })
	if s.Etcd.Err != nil || !slices.Equal(s.Etcd.Endpoints, etcd.Endpoints()) {
		t.Errorf("etcd is shown as %+v", s.Etcd)
	}
	etcd.Stop()
	kit.Eventually(t, soon, "the page says that etcd is away", func() bool {
		w := httptest.NewRecorder()
		statuspage.Handler(registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		text := w.Body.String()
		return strings.Contains(text, "<code>"+etcd.Endpoints()[0]+"</code> <span class=\"state lost\">not connected</span>") &&
			strings.Count(text, `<span class="state held">`) == 3 && strings.Count(text, `<span class="state drained">`) == 2
	})
	kit.Eventually(t, soon, "the cause is known", func() bool {
		err := registry.Status().Etcd.Err
		return err != nil && strings.Contains(err.Error(), "connection error")
	})
}
