// Package console serves web pages that show the services in etcd and follow
// their changes, and forms that edit their live configs.
package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log"
	"maps"
	"net/http"
	"regexp"
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

// These bound the size of pages and forms.
const (
	// rows of a table, and lines of metadata or of text; searches also find the
	// other rows
	maxRows = 200
	maxCell = 96       // bytes of a text in a table
	maxLong = 2 << 10  // bytes of any other text
	maxBody = 64 << 10 // bytes of a form
)

// policy is the Content-Security-Policy of the pages: a page may load content
// only from this console.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; img-src data:"

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"cell": func(s any) string { return printable.Short(fmt.Sprint(s), maxCell) },
	"long": func(s string) template.HTML {
		return unbroken(printable.Short(s, maxLong))
	},
	"whole": unbroken,
	"list": func(all []string) template.HTML {
		return unbroken(printable.Short(output.SomeOf(all), maxCell))
	},

	// the first keys of a finding
	"first":   func(keys []string) []string { return keys[:min(len(keys), 3)] },
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

// name matches words of escaped text in which a browser may break the line, or
// which may change the direction of the text around them.
var name = regexp.MustCompile(`\S*([-/.:=?@]\w|[^\x00-\x7f])\S*`)

// unbroken returns text as HTML. Its names, such as addresses and keys, are not
// broken over lines, unless they are very long.
func unbroken(text string) template.HTML {
	isolate := func(word string) string {
		if len(word) > 2*maxCell {
			return word
		}

		return "<bdi>" + word + "</bdi>"
	}

	escaped := template.HTMLEscapeString(text)

	return template.HTML(name.ReplaceAllStringFunc(escaped, isolate)) //nolint:gosec // it is escaped
}

// shown returns at most limit lines, each cut to maxLong bytes. If it omits
// lines, it adds a line with their number.
func shown(limit int, lines []string) (all []string) {
	for _, line := range lines[:min(len(lines), limit)] {
		all = append(all, printable.Short(line, maxLong))
	}

	if more := len(lines) - len(all); more > 0 {
		all = append(all, fmt.Sprintf("%d more", more))
	}

	return all
}

// Console serves the pages and the forms.
type Console struct {
	store    *store.Store
	key      string // of the only service that is read, shown and edited; "" for all
	snapshot func(ctx context.Context, key string) (*store.Snapshot, error)
	etcd     string // names the etcd and its user, for readers
	log      *log.Logger
	readOnly bool
	handler  http.Handler
	reading  sync.Mutex
	now      atomic.Pointer[known]
}

// known is the last snapshot of etcd.
type known struct {
	*store.Snapshot
	trouble string // why the snapshot is out of date; "" if it is current

	// returns the sorted lines of the services, computed by the first call
	lines func() []line
}

// New returns a console for the service at key or, if key is "", for all
// services. A read-only console has no forms.
func New(s *store.Store, key, etcd string, readOnly bool, l *log.Logger) *Console {
	c := &Console{store: s, key: key, etcd: etcd, log: l, readOnly: readOnly}
	c.now.Store(&known{
		Snapshot: new(store.Snapshot),
		trouble:  "etcd has not been read yet",
		lines:    func() []line { return nil },
	})

	start := c.overview
	c.snapshot = s.Under

	if key != "" {
		start = c.service
		c.snapshot = s.At
	}

	mux := http.NewServeMux()
	mux.Handle("GET /assets/", http.FileServerFS(files))
	mux.HandleFunc("GET /{$}", start)
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

// read reads etcd and updates the pages. Reads run one at a time, so that a
// later read shows newer data.
func (c *Console) read(ctx context.Context) (*store.Snapshot, error) {
	c.reading.Lock()
	defer c.reading.Unlock()

	n, err := c.snapshot(ctx, c.key)
	if c.key == "" && errors.Is(err, store.ErrDenied) {
		err = fmt.Errorf("%w. To see one service: %s", err, c.store.Etcdrpc("ui", "KEY"))
	}

	switch {
	case err == nil:
		lines := sync.OnceValue(func() []line { return c.linesOf(n) })
		c.now.Store(&known{Snapshot: n, lines: lines})

	case ctx.Err() == nil:
		k := *c.now.Load()
		k.trouble = err.Error()
		c.now.Store(&k)
	}

	return n, err
}

// frame is the part that all pages share.
type frame struct {
	Title, Etcd, Trouble, Note string
	Empty                      bool // etcd has not been read yet
	Only                       bool // there is only one service

	// the page does not refresh itself (Still), or has no forms (ReadOnly)
	Still, ReadOnly bool

	// the key of the service whose instances a search covers; "" covers all
	// services
	Of string

	Query string // of the search
	More  int    // the number of omitted rows
}

func (c *Console) frame(title string, k *known, r *http.Request) frame {
	return frame{
		Title:    title,
		Etcd:     c.etcd,
		Trouble:  k.trouble,
		Note:     k.Note,
		Empty:    k.Revision == 0,
		Only:     c.key != "",
		ReadOnly: c.readOnly,
		Query:    r.FormValue("q"),
	}
}

// cut returns the rows that a page shows, and counts the omitted rows.
func cut[T any](f *frame, rows []T) []T {
	f.More = max(0, len(rows)-maxRows)
	return rows[:len(rows)-f.More]
}

// finds reports whether text, in lower case, contains each word of the search.
func (f *frame) finds(text string) bool {
	return !slices.ContainsFunc(strings.Fields(strings.ToLower(f.Query)),
		func(word string) bool { return !strings.Contains(text, word) })
}

// show writes a page, unless the browser's copy is current.
func (c *Console) show(
	w http.ResponseWriter,
	r *http.Request,
	status int,
	name string,
	data any,
) {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, data); err != nil {
		c.log.Printf("page %s: %v", name, err)
		http.Error(w, "The page cannot be made; the console's log says why.",
			http.StatusInternalServerError)

		return
	}

	tag := `"` + digest(out.String()) + `"`
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", tag)

	if status == http.StatusOK &&
		strings.TrimPrefix(r.Header.Get("If-None-Match"), "W/") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}

	w.WriteHeader(status)
	_, _ = out.WriteTo(w) // an error means that the browser has gone
}

// digest returns a hash of texts.
func digest(texts ...string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(texts, "\x00"))))
}
