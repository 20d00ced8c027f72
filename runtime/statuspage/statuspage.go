// Package statuspage shows what a registry is doing, for the debug port of a service:
//
//	http.Handle("/debug/etcd", statuspage.Handler(registry))
//
// The page holds the addresses and metadata of endpoints. Serve it where debug pages belong, not to
// the public.
package statuspage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

//go:embed statuspage.html
var page string

var tmpl = template.Must(template.New("statuspage").Parse(page))

// policy lets the page use nothing but its own style sheet, and be framed by nobody.
var policy = "default-src 'none'; style-src '" + styleHash() + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// styleHash returns the hash of the page's style sheet, as a Content-Security-Policy names it.
func styleHash() string {
	_, rest, _ := strings.Cut(page, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Handler returns a handler that shows the keys that the registry follows, with their endpoints, and
// its registrations: as HTML, or as JSON where the request has ?format=json or accepts JSON rather
// than HTML. It reads what the registry knows and asks etcd for nothing. Texts are escaped, and the
// HTML cuts long ones. No other site can frame the answer, and no cache keeps it.
func Handler(registry *runtime.Registry) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		protect(w.Header())
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "want GET", http.StatusMethodNotAllowed)
			return
		}
		write, contentType := writeHTML, "text/html; charset=utf-8"
		if wantsJSON(req) {
			write, contentType = writeJSON, "application/json"
		}
		var body bytes.Buffer
		if err := write(&body, registry.Status(), time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body.Bytes()) // an error: the reader is gone
	})
}

// protect sets the headers that every answer has.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// longest bounds a text of the HTML page, in bytes, and longestConfig a service config that is laid out in
// lines. The JSON has them whole.
const (
	longest       = 4 << 10
	longestConfig = 64 << 10
)

func writeHTML(w io.Writer, s runtime.RegistryStatus, now time.Time) error {
	v := newView(s, now, func(text string) string { return printable.Short(text, longest) })
	for i := range v.Keys {
		v.Keys[i].ServiceConfig = layOut(s.Keys[i].ServiceConfig)
	}
	return tmpl.Execute(w, v)
}

// layOut returns a service config in lines, or as any other text if it is no JSON.
func layOut(config string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(config), "", "  "); err != nil {
		return printable.Short(config, longest)
	}
	text := printable.JSON(b.Bytes())
	if len(text) > longestConfig {
		end := bytes.LastIndexByte(text[:longestConfig], '\n') + 1
		return fmt.Sprintf("%s... (%d bytes)", text[:end], len(config))
	}
	return string(text)
}

func writeJSON(w io.Writer, s runtime.RegistryStatus, now time.Time) error {
	text, err := json.MarshalIndent(newView(s, now, func(text string) string { return text }), "", "  ")
	if err == nil {
		_, err = w.Write(append(printable.JSON(text), '\n'))
	}
	return err
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
	Etcd          etcd           `json:"etcd"`
	Keys          []key          `json:"keys"`
	Registrations []registration `json:"registrations"`
}

type etcd struct {
	Endpoints []string `json:"endpoints"`
	Error     string   `json:"error,omitempty"` // why there is no connection to any of them
}

type key struct {
	Key           string     `json:"key"`
	State         string     `json:"state"` // "following", "stale", "unknown"
	Error         string     `json:"error,omitempty"`
	Connections   int        `json:"connections"`
	Away          int        `json:"away,omitempty"` // connections whose calls go to another cluster
	Held          int        `json:"held,omitempty"`
	Age           string     `json:"age,omitempty"` // since the endpoints last changed
	ServiceConfig string     `json:"serviceConfig,omitempty"`
	ConfigError   string     `json:"serviceConfigError,omitempty"` // why the one in etcd is not in force
	Endpoints     []endpoint `json:"endpoints"`
	Leaving       []endpoint `json:"leaving,omitempty"` // in etcd, and withdrawn by their owners: no call goes there
}

type endpoint struct {
	Instance string            `json:"instance"`
	Addr     string            `json:"addr"`
	Version  string            `json:"version,omitempty"`
	Zone     string            `json:"zone,omitempty"`
	Weight   uint32            `json:"weight,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Held     bool              `json:"held,omitempty"`    // gone from etcd, and kept for a grace
	Drained  bool              `json:"drained,omitempty"` // by the live config
}

type registration struct {
	Key   string `json:"key"`
	State string `json:"state"`
	Since string `json:"since"`
	Lease string `json:"lease,omitempty"`
	Error string `json:"error,omitempty"`
}

// newView returns a status as it is shown. Every text of it goes through show.
func newView(s runtime.RegistryStatus, now time.Time, show func(string) string) view {
	v := view{Time: now.UTC().Truncate(time.Second), Keys: []key{}, Registrations: []registration{}}
	v.Etcd = etcd{Endpoints: []string{}, Error: reason(s.Etcd.Err, show)}
	for _, e := range s.Etcd.Endpoints {
		v.Etcd.Endpoints = append(v.Etcd.Endpoints, show(e))
	}
	for _, k := range s.Keys {
		v.Keys = append(v.Keys, newKey(k, now, show))
	}
	for _, g := range s.Registrations {
		out := registration{Key: show(g.Key), State: g.State.String(), Since: age(g.Since, now), Error: reason(g.Err, show)}
		if g.LeaseID != 0 {
			out.Lease = fmt.Sprintf("%x", int64(g.LeaseID))
		}
		v.Registrations = append(v.Registrations, out)
	}
	return v
}

func newKey(k runtime.KeyStatus, now time.Time, show func(string) string) key {
	out := key{
		Key: show(k.Key), State: "following", Connections: k.Connections, Away: k.Away, Held: k.Held,
		ServiceConfig: show(k.ServiceConfig), Endpoints: newEndpoints(k.Endpoints, show),
		Error: reason(k.Err, show), ConfigError: reason(k.ConfigErr, show), Leaving: newEndpoints(k.Leaving, show),
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

func newEndpoints(endpoints []runtime.Endpoint, show func(string) string) []endpoint {
	out := make([]endpoint, len(endpoints))
	for i, e := range endpoints {
		out[i] = endpoint{
			Instance: show(e.Instance), Addr: show(e.Addr), Version: show(e.Version), Zone: show(e.Zone), Weight: e.Weight,
			Metadata: showMap(e.Metadata, show),
		}
	}
	return out
}

func showMap(m map[string]string, show func(string) string) map[string]string {
	shown := make(map[string]string, len(m))
	for name, value := range m {
		shown[show(name)] = show(value)
	}
	return shown
}

// reason returns the text of an error, "" for none.
func reason(err error, show func(string) string) string {
	if err == nil {
		return ""
	}
	return show(err.Error())
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
