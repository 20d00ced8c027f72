// Package console serves the web console of etcdrpc: pages for operators, readable without a script, that follow what
// they show. It asks etcd nothing: what is shown and changed is behind [Backend].
//
// model.go has what comes from the backend, and page*.go make page models of that. serve.go puts these through the templates,
// piece by piece (parts.go), and events.go sends what becomes of the pieces. Whatever comes from etcd goes through text.go.
package console

import (
	"crypto/rand"
	"embed"
	"html/template"
	"io/fs"
	"log"
	"net/http"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
)

//go:embed templates assets
var files embed.FS

// Bounds of what a browser may ask for.
const (
	maxBody      = 512 << 10 // bytes of a form
	maxListeners = 256       // of events, all together
	handlerTime  = 20 * time.Second
)

// Options say how the console is served.
type Options struct {
	Backend  Backend
	Token    string   // whoever has it may look; "": everyone who reaches the console
	Hosts    []string // the names that the console may be called by, besides addresses
	Loopback bool     // it is called by loopback addresses and their name alone
	ReadOnly bool     // nothing is written
	Etcd     string   // which etcd it shows, and as whose, in words
	Links    []Link   // to what others say of a service
	Log      *log.Logger
}

// Console is an http.Handler.
type Console struct {
	Options
	pages     *template.Template
	session   string // the value of the cookie of who has logged in; not the token, and new in each process
	cookie    string // its name
	listeners chan struct{}
	followed  followed
	handler   http.Handler
}

// New returns a console. Whoever follows a page does until the request ends.
func New(o Options) *Console {
	c := &Console{
		Options: o, listeners: make(chan struct{}, maxListeners),
		pages: template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/*.html")),
	}
	c.session = rand.Text()
	c.cookie = "etcdrpc_" + rand.Text()[:8] // several consoles on one host have one each
	c.handler = c.guard(http.NewCrossOriginProtection().Handler(compressed(c.routes())))
	return c
}

func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

func (c *Console) routes() http.Handler {
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		panic(err) // it is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", cached(http.FileServerFS(assets))))
	mux.HandleFunc("GET /login", c.showLogin)
	mux.HandleFunc("POST /login", c.login)
	mux.HandleFunc("POST /logout", c.logout)
	mux.Handle("GET /{$}", c.page(c.overview))
	mux.Handle("GET /service", c.page(c.service))
	mux.Handle("GET /history", c.page(c.history))
	mux.Handle("POST /examine", c.page(c.examine))
	mux.Handle("POST /propose", c.page(c.writes(c.propose)))
	mux.Handle("POST /apply", c.page(c.writes(c.apply)))
	mux.Handle("GET /events", c.authenticated(http.HandlerFunc(c.events)))
	return mux
}

// compressed compresses answers for browsers that read that. Between writes nothing is kept in memory: many pages follow.
func compressed(h http.Handler) http.Handler {
	compress, err := gzhttp.NewWrapper(gzhttp.CompressionLevel(gzip.StatelessCompression))
	if err != nil {
		panic(err) // the level is one that there is
	}
	return compress(h)
}

// cached lets browsers keep what does not change while the console runs.
func cached(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=300")
		h.ServeHTTP(w, r)
	})
}
