// Package console serves pages of the services in etcd, which follow it, and forms that change their live configs.
package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

//go:embed pages.html assets
var files embed.FS

// Bounds of a page, whatever etcd holds.
const (
	maxRows = 200      // of a table, and lines of metadata or of a text; a search finds other rows
	maxCell = 96       // bytes of a text in a table
	maxLong = 2 << 10  // bytes of any other text
	maxBody = 64 << 10 // bytes of a form
)

// policy lets a page have nothing but what its own console serves.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"cell":    func(s any) string { return printable.Short(fmt.Sprint(s), maxCell) },
	"long":    func(s string) string { return printable.Short(s, maxLong) },
	"list":    func(all []string) string { return printable.Short(output.SomeOf(all), maxCell) },
	"first":   output.FirstOf[string],
	"counted": output.Counted,
	"lease":   inventory.LeaseName,
	"shown":   shown,
	"pairs": func(metadata map[string]string) (all []string) {
		for _, name := range slices.Sorted(maps.Keys(metadata)) {
			all = append(all, name+"="+metadata[name])
		}
		return all
	},
}).ParseFS(files, "pages.html"))

// shown returns the lines of a text as a page shows them.
func shown(most int, lines []string) (all []string) {
	for _, line := range lines[:min(len(lines), most)] {
		all = append(all, printable.Short(line, maxLong))
	}
	if more := len(lines) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("%d more", more))
	}
	return all
}

// Console is an http.Handler.
type Console struct {
	store    *store.Store
	etcd     string // which etcd it shows, and as whose, in words
	log      *log.Logger
	readOnly bool
	handler  http.Handler
	reading  sync.Mutex
	now      atomic.Pointer[known]
}

// known is the last snapshot of etcd.
type known struct {
	*store.Snapshot
	trouble string        // why it is old; "": it is not
	lines   func() []line // of its services, in their order, made when somebody looks
}

// New returns a console of what a store holds. One that is read-only has no forms.
func New(s *store.Store, etcd string, readOnly bool, l *log.Logger) *Console {
	c := &Console{store: s, etcd: etcd, log: l, readOnly: readOnly}
	c.now.Store(&known{Snapshot: new(store.Snapshot), trouble: "etcd has not been read yet", lines: func() []line { return nil }})
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(err) // it is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(assets)))
	mux.HandleFunc("GET /{$}", c.overview)
	mux.HandleFunc("GET /service", c.service)
	mux.HandleFunc("GET /edit", c.edit)
	mux.HandleFunc("POST /edit", c.edit)
	c.handler = http.NewCrossOriginProtection().Handler(mux)
	return c
}

func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "same-origin")
	c.handler.ServeHTTP(w, r)
}

// Run follows etcd until ctx ends.
func (c *Console) Run(ctx context.Context) {
	c.store.Follow(ctx, c.read, func(*store.Snapshot, error) {})
}

// read reads etcd, and has pages show that. One read at a time: a later one shows no less.
func (c *Console) read(ctx context.Context) (*store.Snapshot, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	n, err := c.store.Under(ctx, "")
	switch was := c.now.Load(); {
	case err == nil:
		c.now.Store(&known{Snapshot: n, lines: sync.OnceValue(func() []line { return c.linesOf(n) })})
	case ctx.Err() == nil:
		c.now.Store(&known{Snapshot: was.Snapshot, lines: was.lines, trouble: err.Error()})
	}
	return n, err
}

// frame is what all pages have.
type frame struct {
	Title, Etcd, Trouble, Note string
	Still, ReadOnly            bool   // it does not follow; it has no forms
	Of                         string // the key of the service whose instances are searched; "": all services are
	Query                      string // of the search
	More                       int    // rows that are not shown
}

func (c *Console) frame(title string, k *known, r *http.Request) frame {
	return frame{Title: title, Etcd: c.etcd, Trouble: k.trouble, Note: k.Note, ReadOnly: c.readOnly, Query: r.FormValue("q")}
}

// cut returns the rows that a page shows, and counts the others.
func cut[T any](f *frame, rows []T) []T {
	f.More = max(0, len(rows)-maxRows)
	return rows[:len(rows)-f.More]
}

// finds reports whether each word that is searched is in a text of lower case.
func (f *frame) finds(text string) bool {
	return !slices.ContainsFunc(strings.Fields(strings.ToLower(f.Query)), func(word string) bool { return !strings.Contains(text, word) })
}

// show writes a page, unless the browser has it.
func (c *Console) show(w http.ResponseWriter, r *http.Request, status int, name string, model any) {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, model); err != nil {
		c.log.Printf("page %s: %v", name, err)
		http.Error(w, "The page cannot be made; the console's log says why.", http.StatusInternalServerError)
		return
	}
	tag := `"` + digest(out.String()) + `"`
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", tag)
	if status == http.StatusOK && strings.TrimPrefix(r.Header.Get("If-None-Match"), "W/") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.WriteHeader(status)
	_, _ = out.WriteTo(w) // or the browser has gone
}

// digest tells texts apart.
func digest(texts ...string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(texts, "\x00"))))
}
