// Package statuspage shows what a registry is doing, for the debug port of a service:
//
//	http.Handle("/debug/etcd", statuspage.Handler(registry))
//
// The page holds the addresses and metadata of endpoints. Serve it where debug pages belong, not to
// the public.
package statuspage

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

//go:embed statuspage.html
var page string

var tmpl = template.Must(template.New("statuspage").Parse(page))

// Handler returns a handler that shows the keys that the registry follows, with their endpoints, and
// its registrations: as HTML, or as JSON where the request has ?format=json or accepts JSON rather
// than HTML. It reads what the registry knows and asks etcd for nothing.
func Handler(registry *runtime.Registry) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "want GET", http.StatusMethodNotAllowed)
			return
		}
		view := newView(registry.Status(), time.Now())
		var body bytes.Buffer
		var err error
		if wantsJSON(req) {
			w.Header().Set("Content-Type", "application/json")
			encoder := json.NewEncoder(&body)
			encoder.SetIndent("", "  ")
			err = encoder.Encode(view)
		} else {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
			err = tmpl.Execute(&body, view)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body.Bytes()) // an error: the reader is gone
	})
}

func wantsJSON(req *http.Request) bool {
	if format := req.URL.Query().Get("format"); format != "" {
		return format == "json"
	}
	accept := req.Header.Get("Accept")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

// view is the status in the form that is shown. Its JSON names are part of the page's interface.
type view struct {
	Time          time.Time      `json:"time"`
	Keys          []key          `json:"keys"`
	Registrations []registration `json:"registrations"`
}

type key struct {
	Key           string     `json:"key"`
	State         string     `json:"state"` // "following", "stale", "unknown"
	Error         string     `json:"error,omitempty"`
	Connections   int        `json:"connections"`
	Held          int        `json:"held,omitempty"`
	Age           string     `json:"age,omitempty"` // since the endpoints last changed
	ServiceConfig string     `json:"serviceConfig,omitempty"`
	Endpoints     []endpoint `json:"endpoints"`
}

type endpoint struct {
	Instance string            `json:"instance"`
	Addr     string            `json:"addr"`
	Version  string            `json:"version,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Weight   uint32            `json:"weight,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

type registration struct {
	Key   string `json:"key"`
	State string `json:"state"`
	Since string `json:"since"`
	Lease string `json:"lease,omitempty"`
	Error string `json:"error,omitempty"`
}

func newView(s runtime.RegistryStatus, now time.Time) view {
	v := view{Time: now.UTC().Truncate(time.Second), Keys: []key{}, Registrations: []registration{}}
	for _, k := range s.Keys {
		out := key{
			Key: k.Key, State: "following", Connections: k.Connections, Held: k.Held,
			ServiceConfig: k.ServiceConfig, Endpoints: make([]endpoint, len(k.Endpoints)),
		}
		for i, e := range k.Endpoints {
			out.Endpoints[i] = endpoint(e)
		}
		if k.Err != nil || k.Provisional {
			out.State = "stale"
		}
		if !k.Known {
			out.State = "unknown"
		} else {
			out.Age = age(k.Changed, now)
		}
		if k.Err != nil {
			out.Error = k.Err.Error()
		}
		v.Keys = append(v.Keys, out)
	}
	for _, g := range s.Registrations {
		out := registration{Key: g.Key, State: g.State.String(), Since: age(g.Since, now)}
		if g.LeaseID != 0 {
			out.Lease = fmt.Sprintf("%x", int64(g.LeaseID))
		}
		if g.Err != nil {
			out.Error = g.Err.Error()
		}
		v.Registrations = append(v.Registrations, out)
	}
	return v
}

func age(then, now time.Time) string {
	d := max(0, now.Sub(then))
	if d >= time.Second {
		d = d.Round(time.Second)
	} else {
		d = d.Round(time.Millisecond)
	}
	return d.String()
}
