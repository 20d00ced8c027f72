// Package console serves pages of the services in etcd, which are read again as they change. It writes nothing.
package console

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"fmt"
	"hash/maphash"
	"html/template"
	"io/fs"
	"log"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

//go:embed pages.html assets
var files embed.FS

const (
	maxRows = 500 // of a table; a search finds the rest
	maxCell = 96  // bytes of a text in a table
	maxLong = 2 << 10
)

// policy lets a page have nothing but what its own console serves.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"cell":    func(s any) string { return printable.Short(fmt.Sprint(s), maxCell) },
	"long":    func(s string) string { return printable.Short(s, maxLong) },
	"lines":   shownLines,
	"seconds": output.Seconds,
}).ParseFS(files, "pages.html"))

// shownLines returns text of several lines, each of them escaped.
func shownLines(s string) string {
	var out strings.Builder
	output.SayLines(&out, s)
	return out.String()
}

// Console is an http.Handler.
type Console struct {
	store *store.Store
	etcd  string // which etcd it shows, and as whose, in words
	log   *log.Logger
	mux   *http.ServeMux
	now   atomic.Pointer[known]
}

// known is what was read last.
type known struct {
	*store.Snapshot
	trouble  string                      // why it is old; "": it is not
	findings map[string][]doctor.Finding // by service
}

// New returns a console of what a store holds.
func New(s *store.Store, etcd string, l *log.Logger) *Console {
	c := &Console{store: s, etcd: etcd, log: l, mux: http.NewServeMux()}
	c.now.Store(&known{Snapshot: &store.Snapshot{}, trouble: "etcd has not been read yet"})
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(err) // it is embedded
	}
	c.mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(assets)))
	c.mux.HandleFunc("GET /{$}", c.overview)
	c.mux.HandleFunc("GET /service", c.service)
	return c
}

func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	c.mux.ServeHTTP(w, r)
}

// Run follows etcd until ctx ends.
func (c *Console) Run(ctx context.Context) {
	c.store.Follow(ctx, func(ctx context.Context) (*store.Snapshot, error) { return c.store.Under(ctx, "") }, func(n *store.Snapshot, err error) {
		next := *c.now.Load()
		if next.trouble = ""; err != nil {
			next.trouble = err.Error()
		} else {
			next.Snapshot, next.findings = n, c.findings(n)
		}
		c.now.Store(&next)
	})
}

// findings returns what is wrong with services, by their keys, as far as it shows without their leases.
func (c *Console) findings(n *store.Snapshot) map[string][]doctor.Finding {
	all := make(map[string][]doctor.Finding)
	for _, s := range n.Services {
		if s.Evident() {
			one := *n
			one.Services = []*survey.Service{s}
			all[s.Key] = doctor.Glance(&one, c.store.Full, c.store.Endpoints()).Findings
		}
	}
	return all
}

// frame is what all pages have.
type frame struct {
	Title, Etcd, Trouble, Note, Query string
	Revision                          int64
	More                              int // rows that are not shown
}

func (c *Console) frame(title string, k *known, r *http.Request) frame {
	return frame{Title: title, Etcd: c.etcd, Trouble: k.trouble, Note: k.Note, Query: r.FormValue("q"), Revision: k.Revision}
}

// show writes a page, unless the browser has it.
func (c *Console) show(w http.ResponseWriter, r *http.Request, status int, name string, model any) {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, model); err != nil {
		c.log.Printf("page %s: %v", name, err)
		http.Error(w, "The page cannot be made; the console's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	if status != http.StatusOK {
		w.WriteHeader(status)
		_, _ = out.WriteTo(w) // or the browser has gone
		return
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(maphash.Bytes(seed, out.Bytes()))))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(out.Bytes()))
}

var seed = maphash.MakeSeed()

// line is a service in the overview.
type line struct {
	Key, Leader, Policy string
	Counts              map[survey.State]int
	Versions, Zones     []string
	Kinds               []string
	Failing             bool
	text                string // what a search looks at
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request) {
	k := c.now.Load()
	p := struct {
		frame
		Lines []line
	}{frame: c.frame("Services", k, r)}
	for _, s := range k.Services {
		if l := k.line(s); has(l.text, p.Query) {
			p.Lines = append(p.Lines, l)
		}
	}
	slices.SortStableFunc(p.Lines, func(a, b line) int {
		return cmp.Or(len(b.Kinds)-len(a.Kinds), strings.Compare(a.Key, b.Key))
	})
	p.More = max(0, len(p.Lines)-maxRows)
	p.Lines = p.Lines[:len(p.Lines)-p.More]
	c.show(w, r, http.StatusOK, "overview", p)
}

// has reports whether each word of a query is in a text.
func has(text, query string) bool {
	text = strings.ToLower(text)
	return !slices.ContainsFunc(strings.Fields(strings.ToLower(query)), func(word string) bool { return !strings.Contains(text, word) })
}

func (k *known) line(s *survey.Service) line {
	l := line{Key: s.Key, Counts: make(map[survey.State]int), text: s.Key}
	switch _, err := s.Live(); {
	case err != nil:
		l.Policy = "refused"
	case s.Config != nil:
		l.Policy = "in force"
	}
	if len(s.Standing) > 0 {
		l.Leader = s.Standing[0].Instance
	}
	for _, i := range slices.Concat(s.Instances, s.Malformed) {
		l.Counts[i.State]++
		l.Versions, l.Zones = append(l.Versions, i.Version), append(l.Zones, i.Zone)
		l.text += "\n" + searched(&i)
	}
	for _, set := range []*[]string{&l.Versions, &l.Zones} {
		slices.Sort(*set)
		*set = slices.DeleteFunc(slices.Compact(*set), func(text string) bool { return text == "" })
	}
	for _, f := range k.findings[s.Key] {
		l.Failing = l.Failing || f.Severity == doctor.Error
		l.Kinds = append(l.Kinds, string(f.Kind))
	}
	slices.Sort(l.Kinds)
	l.Kinds = slices.Compact(l.Kinds)
	return l
}

// searched is what a search looks at of an instance.
func searched(i *survey.Instance) string {
	text := strings.Join([]string{i.Instance, i.Addr, i.Version, i.Zone, string(i.State)}, " ")
	for name, value := range i.Metadata {
		text += fmt.Sprintf(" %s=%.128s", name, value)
	}
	return text
}

func (c *Console) service(w http.ResponseWriter, r *http.Request) {
	k := c.now.Load()
	s := k.Find(r.FormValue("key"))
	p := struct {
		frame
		*survey.Service
		Rows     []survey.Instance
		Findings []doctor.Finding
		Config   string
		At       int64 // the revision of the live config
		Refused  string
		Notes    []string
		Word     string
	}{frame: c.frame(s.Key, k, r), Service: s, Findings: k.findings[s.Key], Word: s.Word()}
	all := s.Instances
	if x, err := steer.Explain(s, steer.Caller{}); err == nil {
		all, p.Notes = x.Instances, x.Notes
	}
	for _, i := range slices.Concat(all, s.Malformed) {
		if has(searched(&i), p.Query) {
			p.Rows = append(p.Rows, i)
		}
	}
	if s.Config != nil {
		p.Config, p.At = liveconfig.Pretty(s.Config.Value[:min(len(s.Config.Value), maxLong<<2)]), s.ConfigRevision()
		if _, err := s.Live(); err != nil {
			p.Refused = err.Error()
		}
	}
	p.More = max(0, len(p.Rows)-maxRows)
	p.Rows = p.Rows[:len(p.Rows)-p.More]
	status := http.StatusOK
	if !s.InUse() && s.Config == nil {
		status = http.StatusNotFound
	}
	c.show(w, r, status, "service", p)
}
