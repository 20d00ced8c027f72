// Package xdspage serves the status of an xDS server over HTTP: as a list, as
// metrics, and as a health check.
package xdspage

import (
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

// maxClients bounds the clients in the list.
const maxClients = 500

// Handler serves the list at / and metrics at /metrics. At /healthz it reports
// whether all services that clients ask for are known.
func Handler(status func() xds.Status) http.Handler {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collector(status))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		health(w, status())
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		list(w, status())
	})

	return mux
}

func setHeader(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
}

// health reports whether etcd has answered for all services that clients ask
// for. A later loss of etcd does not change the answer, and neither does a
// service that etcd's user may not read.
func health(w http.ResponseWriter, s xds.Status) {
	setHeader(w)

	for _, h := range s.Hosts {
		if !h.Known {
			w.WriteHeader(http.StatusServiceUnavailable)

			if h.Err == nil {
				output.Sayf(w, "%s is not known yet: etcd has not answered\n",
					h.Authority)
			} else {
				output.Sayf(w, "%s is not known: %v\n", h.Authority, h.Err)
			}

			return
		}
	}

	output.Sayf(w, "ok\n")
}

// list writes the services that clients have asked for, and the clients.
func list(w http.ResponseWriter, s xds.Status) {
	setHeader(w)

	for _, h := range s.Hosts {
		output.Sayf(w, "xds:///%s  key %s, %s\n", h.Authority, h.Key,
			output.Counted(h.Endpoints, "endpoint"))

		if h.Err != nil {
			output.Sayf(w, "  error: %v\n", h.Err)
		} else if !h.Known {
			output.Sayf(w, "  unknown: etcd has not answered\n")
		}

		for _, text := range h.Unsupported {
			output.Sayf(w, "  unsupported: %s\n", text)
		}
	}

	for _, c := range s.Clients[:min(len(s.Clients), maxClients)] {
		output.Sayf(w, "client %s  %s, zone %s, address %s\n",
			c.ID, c.Agent, c.Zone, c.Addr)

		for _, t := range c.Types {
			output.Sayf(w, "  %s: asks for %d, sent version %s, ACK of %s",
				t.Name, t.Asked, t.Version, t.Acked)

			if t.Refused != "" {
				output.Sayf(w, ", NACK: %s", t.Refused)
			}

			output.Sayf(w, "\n")
		}
	}

	output.Sayf(w,
		"Clients have asked for %s. There are %d clients, of which at most %d are listed\n",
		output.Counted(len(s.Hosts), "service"), len(s.Clients), maxClients)
}

// collector collects metrics from a status.
type collector func() xds.Status

var (
	clients  = describe("clients", "Connections of clients.")
	refusals = describe("nacked_clients",
		"Connections of clients that refused (NACK) their last response of some type.")

	pending = describe("unacked_clients",
		"Connections of clients that have neither acknowledged nor refused their last response of some type.")

	hosts     = describe("authorities", "Names that clients ask for.")
	endpoints = describe("endpoints", "Endpoints of a name that clients ask for.",
		"authority")

	troubled = describe("authority_trouble",
		"1 where a name cannot be followed in etcd now, or its live config is not in force.",
		"authority")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("etcdrpc_xds_"+name, help, labels, nil)
}

// Describe implements [prometheus.Collector]. It describes no metrics, so the
// registry checks each collected metric instead.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value),
			labels...)
	}

	isRefused := func(t xds.Type) bool { return t.Refused != "" }
	isPending := func(t xds.Type) bool { return t.Pending }

	s := c()
	refusing := 0
	unanswered := 0

	for _, client := range s.Clients {
		if slices.ContainsFunc(client.Types, isRefused) {
			refusing++
		}

		if slices.ContainsFunc(client.Types, isPending) {
			unanswered++
		}
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
