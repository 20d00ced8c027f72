// Package statuspage shows the status of a registry, for the debug port of a
// service:
//
//	http.Handle("/debug/etcd", statuspage.Handler(registry))
//
// The page holds the addresses and metadata of endpoints. Serve it where debug
// pages belong, not to the public.
package statuspage

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printablejson"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Handler returns a handler that shows, as indented JSON, the keys that the
// registry follows, their endpoints, and the registrations. It does not read
// from etcd. Strings are escaped. Headers forbid other sites to frame the page,
// and caches to keep it.
func Handler(registry *runtime.Registry) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")

		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "want GET", http.StatusMethodNotAllowed)

			return
		}

		text, err := show(registry.Status(), time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}

		h.Set("Content-Type", "application/json")
		_, _ = w.Write(text) // an error: the client is gone
	})
}

// show returns the JSON of a status.
func show(s runtime.RegistryStatus, now time.Time) ([]byte, error) {
	text, err := json.MarshalIndent(newView(s, now), "", "  ")
	return append(printablejson.Escape(text), '\n'), err
}

// view is the content of the page. Its JSON names are part of the page's
// interface.
type view struct {
	Time          time.Time      `json:"time"`
	Etcd          etcd           `json:"etcd"`
	Keys          []key          `json:"keys"`
	Registrations []registration `json:"registrations"`
}

type etcd struct {
	Endpoints []string `json:"endpoints"`
	Error     string   `json:"error,omitempty"` // why no endpoint is connected
}

type key struct {
	Key         string `json:"key"`
	State       string `json:"state"` // "following", "stale", "unknown"
	Error       string `json:"error,omitempty"`
	Connections int    `json:"connections"`

	// the number of connections with calls that go to the fallback cluster
	Away int `json:"away,omitempty"`

	Held int `json:"held,omitempty"`

	// the time since the endpoints last changed
	Age string `json:"age,omitempty"`

	ServiceConfig json.RawMessage `json:"serviceConfig,omitempty"`

	// why the config in etcd is not in force
	ConfigError string `json:"serviceConfigError,omitempty"`

	Endpoints []endpoint `json:"endpoints"`

	// in etcd, but without calls, because their owners withdraw them
	Leaving []endpoint `json:"leaving,omitempty"`
}

type endpoint struct {
	Instance string            `json:"instance"`
	Addr     string            `json:"addr"`
	Version  string            `json:"version,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Weight   uint32            `json:"weight,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`

	// the endpoint has vanished from etcd, and is kept for a grace
	Held bool `json:"held,omitempty"`

	// the live config drains the endpoint
	Drained bool `json:"drained,omitempty"`
}

type registration struct {
	Key   string `json:"key"`
	State string `json:"state"`
	Since string `json:"since"`
	Lease string `json:"lease,omitempty"`
	Error string `json:"error,omitempty"`
}

func newView(s runtime.RegistryStatus, now time.Time) view {
	v := view{
		Time:          now.UTC().Truncate(time.Second),
		Keys:          []key{},
		Registrations: []registration{},
	}

	v.Etcd = etcd{
		Endpoints: append([]string{}, s.Etcd.Endpoints...),
		Error:     reason(s.Etcd.Err),
	}

	for _, k := range s.Keys {
		v.Keys = append(v.Keys, newKey(k, now))
	}

	for _, g := range s.Registrations {
		out := registration{
			Key:   g.Key,
			State: g.State.String(),
			Since: age(g.Since, now),
			Error: reason(g.Err),
		}
		if g.LeaseID != 0 {
			out.Lease = fmt.Sprintf("%x", int64(g.LeaseID))
		}

		v.Registrations = append(v.Registrations, out)
	}

	return v
}

func newKey(k runtime.KeyStatus, now time.Time) key {
	out := key{
		Key:           k.Key,
		State:         "following",
		Connections:   k.Connections,
		Away:          k.Away,
		Held:          k.Held,
		ServiceConfig: json.RawMessage(k.ServiceConfig),
		Endpoints:     newEndpoints(k.Endpoints),
		Error:         reason(k.Err),
		ConfigError:   reason(k.ConfigErr),
		Leaving:       newEndpoints(k.Leaving),
	}
	for i, e := range k.Endpoints {
		_, out.Endpoints[i].Held = slices.BinarySearch(k.HeldAddrs, e.Addr)
		_, out.Endpoints[i].Drained = slices.BinarySearch(k.DrainedAddrs, e.Addr)
	}

	if k.Err != nil || k.Provisional {
		out.State = "stale"
	}

	if k.Known {
		out.Age = age(k.Changed, now)
	} else {
		out.State = "unknown"
	}

	return out
}

func newEndpoints(endpoints []runtime.Endpoint) []endpoint {
	out := make([]endpoint, len(endpoints))
	for i, e := range endpoints {
		out[i] = endpoint{
			Instance: e.Instance,
			Addr:     e.Addr,
			Version:  e.Version,
			Zone:     e.Zone,
			Weight:   e.Weight,
			Metadata: e.Metadata,
		}
	}

	return out
}

// reason returns the text of err, or "" if err is nil.
func reason(err error) string {
	if err == nil {
		return ""
	}

	return err.Error()
}

func age(then, now time.Time) string {
	d := max(0, now.Sub(then))
	if d >= time.Second {
		return d.Round(time.Second).String()
	}

	return d.Round(time.Millisecond).String()
}
