package discovery

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.opentelemetry.io/otel/attribute"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.yaml.in/yaml/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// metered returns the option by which a registry reports its metrics to
// readers.
func metered(readers ...metric.Reader) runtime.Option {
	var opts []metric.Option
	for _, reader := range readers {
		opts = append(opts, metric.WithReader(reader))
	}

	return runtime.WithMeterProvider(metric.NewMeterProvider(opts...))
}

// collect returns the metrics that the registry of a reader reports.
func collect(t *testing.T, reader *metric.ManualReader) (all []metricdata.Metrics) {
	t.Helper()

	var collected metricdata.ResourceMetrics
	kit.Must(t, reader.Collect(kit.Context(t), &collected))

	for _, scope := range collected.ScopeMetrics {
		if scope.Scope.Name != "github.com/etcdrpc/protoc-gen-go-etcd/runtime" {
			t.Errorf("the scope is %+v, want package runtime", scope.Scope)
		}

		all = append(all, scope.Metrics...)
	}

	return all
}

// point is one data point of a metric.
type point struct {
	attrs attribute.Set
	value float64
}

func pointsOf(data metricdata.Aggregation) (kind string, all []point) {
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		kind = "updowncounter"
		if data.IsMonotonic {
			kind = "counter"
		}

		for _, p := range data.DataPoints {
			all = append(all, point{p.Attributes, float64(p.Value)})
		}

	case metricdata.Gauge[float64]:
		kind = "gauge"

		for _, p := range data.DataPoints {
			all = append(all, point{p.Attributes, p.Value})
		}

	default:
		kind = fmt.Sprintf("%T", data)
	}

	return kind, all
}

// value returns the sum and the number of the metric's points that have all
// wanted attributes.
func value(
	t *testing.T,
	reader *metric.ManualReader,
	name string,
	want ...attribute.KeyValue,
) (sum float64, points int) {
	t.Helper()

	for _, m := range collect(t, reader) {
		if m.Name != name {
			continue
		}

		_, all := pointsOf(m.Data)
		for _, p := range all {
			lacks := func(kv attribute.KeyValue) bool {
				got, ok := p.attrs.Value(kv.Key)
				return !ok || got != kv.Value
			}
			if !slices.ContainsFunc(want, lacks) {
				sum += p.value
				points++
			}
		}
	}

	return sum, points
}

// pinned describes all metrics: name, kind, unit and the values of each
// attribute. Users' dashboards depend on them.
var pinned = []string{
	"etcdrpc.discovery.away updowncounter {connection} etcdrpc.key=prod/acme/user",
	"etcdrpc.discovery.malformed_values counter {value} etcdrpc.range=candidates|endpoints|service_config",
	"etcdrpc.discovery.relists counter {relist} error.type=closed|compacted|denied|missed|no_leader|replaced|watch_error etcdrpc.range=candidates|endpoints|service_config",
	"etcdrpc.discovery.status updowncounter {key} etcdrpc.discovery.state=following|stale|unknown etcdrpc.key=prod/acme/user",
	"etcdrpc.endpoint.age gauge s etcdrpc.key=prod/acme/user",
	"etcdrpc.endpoint.count updowncounter {endpoint} etcdrpc.endpoint.state=held|listed etcdrpc.key=prod/acme/user",
	"etcdrpc.registration.count updowncounter {registration} etcdrpc.registration.state=conflict|lost|paused|registered|registering",
	"etcdrpc.registration.restorations counter {restoration}",
}

// The metrics have the names, kinds, units and attributes in pinned. The docs
// name all of them; the dashboard and the alerts use no others. The attribute
// etcdrpc.key includes the namespace.
func TestMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	gatherer := prometheus.NewRegistry()
	exporter, err := otelprom.New(otelprom.WithRegisterer(gatherer))
	kit.Must(t, err)
	w := newWorld(t, nil, metered(reader, exporter), runtime.WithNamespace("prod/"))

	if got := described(t, reader); len(got) != 4 {
		t.Errorf("before the first use of the registry: %d metrics, want 4 counters:\n%s",
			len(got), strings.Join(got, "\n"))
	}

	is := func(name string, want float64, attrs ...attribute.KeyValue) {
		t.Helper()
		kit.Eventually(t, name, func() bool {
			got, _ := value(t, reader, name, attrs...)
			return got == want
		})
	}

	state := func(s runtime.State) attribute.KeyValue {
		return attribute.String("etcdrpc.registration.state", s.String())
	}

	registration, err := w.registry.Register(kit.Context(t), "acme/user",
		runtime.Endpoint{Addr: "10.0.0.1:1"})
	kit.Must(t, err)
	is("etcdrpc.registration.count", 1, state(runtime.StateRegistered))
	w.delete("prod/acme/user/10.0.0.1:1")
	is("etcdrpc.registration.restorations", 1)
	is("etcdrpc.registration.count", 1, state(runtime.StateRegistered))
	is("etcdrpc.registration.count", 0, state(runtime.StateLost))
	kit.Must(t, registration.Pause(kit.Context(t)))
	is("etcdrpc.registration.count", 1, state(runtime.StatePaused))
	kit.Must(t, registration.Resume(kit.Context(t)))

	dial(t, w.registry, greeterAt("acme/user")).Connect()
	key := attribute.String("etcdrpc.key", "prod/acme/user")
	is("etcdrpc.endpoint.count", 1, key, attribute.String("etcdrpc.endpoint.state", "listed"))
	is("etcdrpc.discovery.status", 1, key, attribute.String("etcdrpc.discovery.state", "following"))
	is("etcdrpc.discovery.status", 0, key, attribute.String("etcdrpc.discovery.state", "stale"))

	age, points := value(t, reader, "etcdrpc.endpoint.age", key)
	if points != 1 || age < 0 || age > kit.Soon.Seconds() {
		t.Errorf("endpoint.age: the sum of %[2]d points is %[1]v s, want 1 point of 0 to %[3]v",
			age, points, kit.Soon)
	}

	if got := described(t, reader); !slices.Equal(got, pinned) {
		t.Errorf("got the metrics\n%s\nwant\n%s", strings.Join(got, "\n"),
			strings.Join(pinned, "\n"))
	}

	checkPages(t, gatherer)
	w.put("prod/acme/user/bad", "{")
	is("etcdrpc.discovery.malformed_values", 1, attribute.String("etcdrpc.range", "endpoints"))

	leased := greeterAt("acme/user")
	leased.Layout = runtime.LeaseSuffix

	// A second client reads the same key in another layout. The metrics count
	// the key once.
	dial(t, w.registry, leased).Connect()
	kit.Eventually(t, "the key is known in two layouts", func() bool {
		keys := w.registry.Status().Keys
		return len(keys) == 2 && keys[0].Known && keys[1].Known
	})

	is("etcdrpc.endpoint.count", 1, key, attribute.String("etcdrpc.endpoint.state", "listed"))
	is("etcdrpc.discovery.status", 1, key, attribute.String("etcdrpc.discovery.state", "following"))

	w.etcd.Cut()
	w.put("x", "y")
	_, err = w.etcd.Compact(kit.Context(t))
	kit.Must(t, err)
	w.etcd.Restore()

	kit.Eventually(t, "a relist for compaction", func() bool {
		n, _ := value(t, reader, "etcdrpc.discovery.relists",
			attribute.String("error.type", "compacted"))
		return n > 0
	})

	kit.Must(t, w.registry.Close(kit.Context(t)))

	if n, points := value(t, reader, "etcdrpc.endpoint.count"); points > 0 {
		t.Errorf("a closed registry reports %d points with %v endpoints, want no point", points, n)
	}

	is("etcdrpc.registration.count", 0)
}

// described returns the collected metrics in the format of pinned.
func described(t *testing.T, reader *metric.ManualReader) (all []string) {
	t.Helper()

	for _, m := range collect(t, reader) {
		if m.Description == "" {
			t.Errorf("metric %s has no description", m.Name)
		}

		kind, points := pointsOf(m.Data)
		values := make(map[string][]string)
		for _, p := range points {
			for _, kv := range p.attrs.ToSlice() {
				values[string(kv.Key)] = append(values[string(kv.Key)], kv.Value.String())
			}
		}

		line := []string{m.Name, kind, m.Unit}
		for _, name := range slices.Sorted(maps.Keys(values)) {
			slices.Sort(values[name])
			line = append(line, name+"="+strings.Join(slices.Compact(values[name]), "|"))
		}

		all = append(all, strings.Join(line, " "))
	}

	slices.Sort(all)

	return all
}

// docs is the path of the page that names the metrics, and of the folder with
// the dashboard and the alerts.
const docs = "../../docs/observability"

var (
	labelValues = regexp.MustCompile(`^label_values\((.+), \w+\)$`)
	variable    = regexp.MustCompile(`\$\w+`)
)

// expressions returns the PromQL expressions of a document: the texts under the
// names expr and definition.
func expressions(node any) (all []string) {
	switch node := node.(type) {
	case map[string]any:
		for name, value := range node {
			text, ok := value.(string)
			if ok && (name == "expr" || name == "definition") {
				all = append(all,
					variable.ReplaceAllString(labelValues.ReplaceAllString(text, "$1"), "5m"))
			} else {
				all = append(all, expressions(value)...)
			}
		}

	case []any:
		for _, value := range node {
			all = append(all, expressions(value)...)
		}
	}

	return all
}

// checkPages checks that observability.md names all metrics, and that the
// dashboard and the alerts together name exactly the exposed ones.
func checkPages(t *testing.T, from prometheus.Gatherer) {
	t.Helper()

	families, err := from.Gather()
	kit.Must(t, err)

	exposed := make(map[string]map[string][]string) // by metric and label: the values
	for _, family := range families {
		values := map[string][]string{
			model.MetricNameLabel: {family.GetName()},
			"job":                 nil,
			"instance":            nil,
		}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				values[label.GetName()] = append(values[label.GetName()], label.GetValue())
			}
		}

		exposed[family.GetName()] = values
	}

	page, err := os.ReadFile(docs + ".md")
	kit.Must(t, err)

	for _, metric := range pinned {
		name, _, _ := strings.Cut(metric, " ")
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("docs/observability.md has no row for the metric %s", name)
		}
	}

	shown := make(map[string]bool)
	for _, file := range []string{"grafana-dashboard.json", "prometheus-alerts.yaml"} {
		text, err := os.ReadFile(filepath.Join(docs, file))
		kit.Must(t, err)
		var document any
		kit.Must(t, yaml.Unmarshal(text, &document))

		found := expressions(document)
		if len(found) < 10 {
			t.Errorf("%s has %d expressions, want at least 10", file, len(found))
		}

		for _, expr := range found {
			parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
			if err != nil {
				t.Errorf("parse an expression of %s: %s: %v", file, expr, err)
				continue
			}

			for _, matchers := range parser.ExtractSelectors(parsed) {
				i := slices.IndexFunc(matchers, func(m *labels.Matcher) bool {
					return m.Name == model.MetricNameLabel
				})
				shown[matchers[i].Value] = true

				for _, m := range matchers {
					values, ok := exposed[matchers[i].Value][m.Name]
					for value := range strings.SplitSeq(m.Value, "|") { // 5m stands for any value
						one := labels.MustNewMatcher(m.Type, m.Name, value)
						if !ok || value != "5m" && !slices.ContainsFunc(values, one.Matches) {
							t.Errorf("%s: the label %s has the values %q, want %q among them",
								expr, m.Name, values, value)
						}
					}
				}
			}
		}
	}

	for name := range exposed {
		if strings.HasPrefix(name, "etcdrpc_") && !shown[name] {
			t.Errorf("no panel or alert uses the metric %s", name)
		}
	}
}
