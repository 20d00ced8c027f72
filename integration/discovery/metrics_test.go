package discovery

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// pinned are all metrics: dashboards and alerts of users are made of these words.
var pinned = []string{
	"etcdrpc.discovery.malformed_values counter {value} etcdrpc.range=candidates|endpoints|service_config",
	"etcdrpc.discovery.relists counter {relist} error.type=closed|compacted|denied|missed|no_leader|replaced|silent|watch_error etcdrpc.range=candidates|endpoints|service_config",
	"etcdrpc.discovery.status updowncounter {key} etcdrpc.discovery.state=following|stale|unknown etcdrpc.key=acme/user",
	"etcdrpc.endpoint.age gauge s etcdrpc.key=acme/user",
	"etcdrpc.endpoint.count updowncounter {endpoint} etcdrpc.endpoint.state=held|listed etcdrpc.key=acme/user",
	"etcdrpc.registration.count updowncounter {registration} etcdrpc.registration.state=conflict|lost|paused|registered|registering",
	"etcdrpc.registration.restorations counter {restoration}",
}

// TestMetricNames pins the name, kind, unit and attributes of every metric. The docs have each.
func TestMetricNames(t *testing.T) {
	etcd := etcdtest.Start(t)
	reader := metric.NewManualReader()
	registry := runtime.NewRegistry(etcd.Client(t), runtime.WithLogger(slog.New(slog.DiscardHandler)),
		runtime.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	defer registry.Close(kit.Bounded(t, soon))
	if got := described(t, reader); len(got) != 4 {
		t.Errorf("before anything is used %d counters are reported, want 4:\n%s", len(got), strings.Join(got, "\n"))
	}
	for _, metric := range pinned {
		if name, _, _ := strings.Cut(metric, " "); !strings.Contains(metricsPage(t), "| `"+name+"` |") {
			t.Errorf("docs/observability.md does not have the metric %s", name)
		}
	}
	follow(t, registry, "acme/user")
	kit.Eventually(t, soon, "the key is followed", func() bool {
		n, _ := value(t, reader, "etcdrpc.discovery.status", attribute.String("etcdrpc.discovery.state", "following"))
		return n == 1
	})
	if got := described(t, reader); !slices.Equal(got, pinned) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(pinned, "\n"))
	}
}

// follow has a registry follow a key until it is closed.
func follow(t *testing.T, registry *runtime.Registry, key string) {
	t.Helper()
	conn, err := registry.NewClient(&runtime.ServiceDesc{Name: "acme.User", Key: key}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	conn.Connect()
}

// described returns what a reader collects, as pinned has it.
func described(t *testing.T, reader *metric.ManualReader) (all []string) {
	t.Helper()
	var collected metricdata.ResourceMetrics
	must(t, reader.Collect(kit.Bounded(t, soon), &collected))
	for _, scope := range collected.ScopeMetrics {
		if scope.Scope.Name != "github.com/etcdrpc/protoc-gen-go-etcd/runtime" || scope.Scope.Version == "" {
			t.Errorf("the scope is %+v, want one with a version", scope.Scope)
		}
		for _, m := range scope.Metrics {
			kind, attrs := kindOf(m.Data)
			if m.Description == "" {
				t.Errorf("%s has no description", m.Name)
			}
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", m.Name, kind, m.Unit, attrs)))
		}
	}
	slices.Sort(all)
	return all
}

// kindOf returns the kind of a metric, and its attributes with their values.
func kindOf(data metricdata.Aggregation) (kind, attrs string) {
	values := make(map[string][]string)
	add := func(set attribute.Set) {
		for _, kv := range set.ToSlice() {
			name := string(kv.Key)
			values[name] = append(values[name], kv.Value.String())
		}
	}
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		kind = "updowncounter"
		if data.IsMonotonic {
			kind = "counter"
		}
		for _, p := range data.DataPoints {
			add(p.Attributes)
		}
	case metricdata.Gauge[float64]:
		kind = "gauge"
		for _, p := range data.DataPoints {
			add(p.Attributes)
		}
	default:
		return fmt.Sprintf("%T", data), ""
	}
	var named []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		slices.Sort(values[name])
		named = append(named, name+"="+strings.Join(slices.Compact(values[name]), "|"))
	}
	return kind, strings.Join(named, " ")
}
