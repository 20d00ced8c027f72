// Package xdspage shows who is connected to an xDS server: as a page, as metrics, and as a health check.
package xdspage

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

//go:embed page.html
var text string

var page = template.Must(template.New("").Parse(text))

// maxClients bounds the clients on the page.
const maxClients = 500

// Handler serves the page at /, metrics at /metrics, and at /healthz whether all that clients ask for is known.
func Handler(status func() xds.Status) http.Handler {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collector(status))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { health(w, status()) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { show(w, status()) })
	return mux
}

// health says whether etcd has told all that clients ask for. That etcd is lost later does not change it.
func health(w http.ResponseWriter, s xds.Status) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	for _, h := range s.Hosts {
		if !h.Known {
			w.WriteHeader(http.StatusServiceUnavailable)
			if h.Err == nil {
				output.Sayf(w, "%s is not known yet: etcd has not answered\n", h.Authority)
			} else {
				output.Sayf(w, "%s is not known: %v\n", h.Authority, h.Err)
			}
			return
		}
	}
	output.Sayf(w, "ok\n")
}

// view is what the page shows.
type view struct {
	xds.Status
	Time time.Time
	More int // clients that are left out
}

// Ago returns the time since t for people.
func (v *view) Ago(t time.Time) time.Duration { return v.Time.Sub(t).Truncate(time.Second) }

func show(w http.ResponseWriter, s xds.Status) {
	v := &view{Status: s, Time: time.Now().UTC()}
	if n := len(v.Clients); n > maxClients {
		v.Clients, v.More = v.Clients[:maxClients], n-maxClients
	}
	var out bytes.Buffer
	if err := page.Execute(&out, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, _ = out.WriteTo(w) // who asks may have left
}

// collector makes metrics of a status, when they are asked for.
type collector func() xds.Status

var (
	clients   = describe("clients", "Connections of clients.")
	refusals  = describe("nacked_clients", "Connections of clients that refused (NACK) their last response of some type.")
	pending   = describe("unacked_clients", "Connections of clients that have neither acknowledged nor refused their last response of some type.")
	hosts     = describe("authorities", "Names that clients ask for.")
	endpoints = describe("endpoints", "Endpoints of a name that clients ask for.", "authority")
	troubled  = describe("authority_trouble", "1 where a name cannot be followed in etcd now, or its live service config is not in force.", "authority")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("etcdrpc_xds_"+name, help, labels, nil)
}

// Describe implements [prometheus.Collector].
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{clients, refusals, pending, hosts, endpoints, troubled} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	s := c()
	refusing, unanswered := 0, 0
	for _, client := range s.Clients {
		refuses, waits := 0, 0
		for _, t := range client.Types {
			if t.Refused != "" {
				refuses = 1
			}
			if t.Pending {
				waits = 1
			}
		}
		refusing, unanswered = refusing+refuses, unanswered+waits
	}
	gauge(clients, len(s.Clients))
	gauge(refusals, refusing)
	gauge(pending, unanswered)
	gauge(hosts, len(s.Hosts))
	for _, h := range s.Hosts {
		trouble := 0
		if h.Err != nil {
			trouble = 1
		}
		gauge(endpoints, h.Endpoints, h.Authority)
		gauge(troubled, trouble, h.Authority)
	}
}
