package discovery

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const pages = "../../docs/observability"

var promql = parser.NewParser(parser.Options{})

// exposed are the metrics that a process exposes to Prometheus: by name, the values of each label.
type exposed map[string]map[string][]string

// expose has a registry follow a key and register an entry, and returns what Prometheus would read.
func expose(t *testing.T) exposed {
	t.Helper()
	gatherer := prometheus.NewRegistry()
	exporter, err := otelprom.New(otelprom.WithRegisterer(gatherer))
	must(t, err)
	w := newWorld(t, nil, metered(exporter))
	_, err = w.registry.Register(kit.Bounded(t, soon), "acme/user", runtime.Endpoint{Addr: "10.0.0.1:1"})
	must(t, err)
	dial(t, w.registry, greeterAt("acme/user")).Connect()
	kit.Eventually(t, soon, "the endpoints are known", func() bool { return len(gather(t, gatherer)["etcdrpc_endpoint_count"]) > 0 })
	return gather(t, gatherer)
}

func gather(t *testing.T, from prometheus.Gatherer) exposed {
	t.Helper()
	families, err := from.Gather()
	must(t, err)
	all := make(exposed)
	for _, family := range families {
		// Prometheus adds these to what it reads.
		values := map[string][]string{"job": {"user"}, "instance": {"10.0.0.1:8080"}}
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				values[label.GetName()] = append(values[label.GetName()], label.GetValue())
			}
		}
		all[family.GetName()] = values
	}
	return all
}

// check reports what an expression names that is not there, and returns the metrics that it names.
func (e exposed) check(t *testing.T, expr string) (names []string) {
	t.Helper()
	parsed, err := promql.ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", expr, err)
		return nil
	}
	selectors := parser.ExtractSelectors(parsed)
	for _, matchers := range selectors {
		names = append(names, e.checkSelector(t, expr, matchers))
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if aggregate, ok := node.(*parser.AggregateExpr); ok {
			for _, label := range aggregate.Grouping {
				e.checkLabel(t, expr, names, label)
			}
		}
		return nil
	})
	return names
}

// checkSelector checks the name, the labels and their values, and returns the name.
func (e exposed) checkSelector(t *testing.T, expr string, matchers []*labels.Matcher) string {
	t.Helper()
	i := slices.IndexFunc(matchers, func(m *labels.Matcher) bool { return m.Name == model.MetricNameLabel })
	if i < 0 {
		t.Errorf("%s: a selector without a metric", expr)
		return ""
	}
	name := matchers[i].Value
	values, ok := e[name]
	if !ok {
		t.Errorf("%s: there is no metric %s", expr, name)
		return name
	}
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel {
			continue
		}
		for _, value := range strings.Split(m.Value, "|") {
			one := labels.MustNewMatcher(m.Type, m.Name, value)
			if !slices.ContainsFunc(values[m.Name], one.Matches) {
				t.Errorf("%s: %s has no label %s that matches %q, but %q", expr, name, m.Name, value, values[m.Name])
			}
		}
	}
	return name
}

func (e exposed) checkLabel(t *testing.T, where string, metrics []string, label string) {
	t.Helper()
	for _, name := range metrics {
		if _, ok := e[name][label]; !ok {
			t.Errorf("%s: %s has no label %s", where, name, label)
		}
	}
}

// alerts is Prometheus' format of rule files.
type alerts struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

// TestAlerts checks what every alert names against the metrics that there are.
func TestAlerts(t *testing.T) {
	metrics := expose(t)
	file, err := os.Open(filepath.Join(pages, "prometheus-alerts.yaml"))
	must(t, err)
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	var rules alerts
	must(t, decoder.Decode(&rules))
	found := make(map[string]bool)
	for _, rule := range rules.Groups[0].Rules {
		if found[rule.Alert] || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
			t.Errorf("the alert %q is there twice, or lacks a severity, a summary or a description", rule.Alert)
		}
		found[rule.Alert] = true
		if _, err := time.ParseDuration(cmp.Or(rule.For, "0s")); err != nil {
			t.Errorf("%s: %v", rule.Alert, err)
		}
		if !strings.Contains(metricsPage(t), "| `"+rule.Alert+"` |") {
			t.Errorf("docs/observability.md does not have the alert %s", rule.Alert)
		}
		names := metrics.check(t, rule.Expr)
		for _, text := range rule.Annotations {
			for _, label := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				metrics.checkLabel(t, rule.Alert, names, label[1])
			}
		}
	}
	if len(found) < 10 || len(rules.Groups) != 1 {
		t.Errorf("found %d alerts in %d groups", len(found), len(rules.Groups))
	}
}

// metricsPage returns docs/observability.md.
func metricsPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(pages + ".md")
	must(t, err)
	return string(text)
}

// dashboard is the part of Grafana's format that names metrics.
type dashboard struct {
	Templating struct {
		List []struct {
			Name, Type, Definition string
		}
	}
	Panels []struct {
		ID      int
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr, LegendFormat string }
	}
}

// TestDashboard checks what every panel and variable names against the metrics that there are, and that
// each metric is shown.
func TestDashboard(t *testing.T) {
	metrics := expose(t)
	text, err := os.ReadFile(filepath.Join(pages, "grafana-dashboard.json"))
	must(t, err)
	var d dashboard
	must(t, json.Unmarshal(text, &d))
	shown := make(map[string]bool)
	variables := []string{"$__rate_interval", "5m"}
	for _, v := range d.Templating.List {
		variables = append(variables, "$"+v.Name, ".*")
	}
	fill := strings.NewReplacer(variables...)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		parts := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(v.Definition)
		if parts == nil {
			t.Errorf("the variable %s is %s", v.Name, v.Definition)
			continue
		}
		metrics.checkLabel(t, v.Definition, metrics.check(t, fill.Replace(parts[1])), parts[2])
	}
	ids := make(map[int]bool)
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 || len(p.Targets) == 0 {
			t.Errorf("the panel %d, %q, has an id that is taken, no room, or nothing to show", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			expr := fill.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: a variable that there is not", expr)
			}
			names := metrics.check(t, expr)
			for _, name := range names {
				shown[name] = true
			}
			for _, label := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				metrics.checkLabel(t, p.Title, names, label[1])
			}
		}
	}
	for name := range metrics {
		if strings.HasPrefix(name, "etcdrpc_") && !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}
