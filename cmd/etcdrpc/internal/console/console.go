// Package console serves the web console of etcdrpc: pages for operators, readable without a script, that follow what
// they show. It knows nothing of etcd: what is shown and changed is behind [Backend].
//
// model.go has what comes from the backend, page*.go make page models of that by pure functions, and the handlers put
// these through the templates. Whatever comes from etcd goes through text.go.
package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"log"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
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
	session   string // the value of the cookie of who has logged in
	cookie    string // its name
	listeners chan struct{}
	done      chan struct{} // closed to end the listeners
	followed  followed
	handler   http.Handler
}

// New returns a console. Close ends its listeners.
func New(o Options) *Console {
	c := &Console{
		Options: o, listeners: make(chan struct{}, maxListeners), done: make(chan struct{}),
		pages: template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/*.html")),
	}
	c.newSession()
	c.handler = c.guard(http.NewCrossOriginProtection().Handler(compressed(c.routes())))
	return c
}

// Close ends all listeners. It is called once.
func (c *Console) Close() { close(c.done) }

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

// cached lets browsers keep what does not change while the console runs.
func cached(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=300")
		h.ServeHTTP(w, r)
	})
}

// answer is what a page handler comes to: a template with its model, or another page to go to.
type answer struct {
	status   int // 0: fine
	template string
	model    view
	location string
}

type pageHandler func(r *http.Request) (*answer, error)

// httpError is an error with a status of its own.
type httpError struct {
	status int
	text   string
}

func (e httpError) Error() string { return e.text }

func (c *Console) page(handle pageHandler) http.Handler {
	limited := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			c.fail(w, httpError{http.StatusBadRequest, "the form cannot be read: " + err.Error()})
			return
		}
		a, err := handle(r)
		switch {
		case err != nil:
			c.fail(w, err)
		case a.location != "":
			http.Redirect(w, r, a.location, http.StatusSeeOther)
		default:
			c.show(w, a)
		}
	}), handlerTime, "The console took too long to answer. etcd may be slow or out of reach: try again.")
	return c.authenticated(limited)
}

// writes refuses what would write in a console that only reads.
func (c *Console) writes(handle pageHandler) pageHandler {
	return func(r *http.Request) (*answer, error) {
		if c.ReadOnly {
			return nil, httpError{http.StatusForbidden, "this console only reads: it was started with --read-only"}
		}
		return handle(r)
	}
}

func (c *Console) show(w http.ResponseWriter, a *answer) {
	var out bytes.Buffer
	if err := c.fill(&out, a); err != nil {
		c.Log.Printf("page %s: %v", a.template, err)
		http.Error(w, "The page cannot be made; the console's log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	if _, err := out.WriteTo(w); err != nil {
		return // the browser has gone
	}
}

// fill writes a page.
func (c *Console) fill(out *bytes.Buffer, a *answer) error {
	if f := a.model.base(); f != nil {
		content, err := c.render(a.template, a.model)
		if err != nil {
			return err
		}
		f.content = content
		if f.Follows {
			browser := content.sums()
			f.Version = browser.version()
			c.followed.show(f.Version, browser)
		}
	}
	return c.pages.ExecuteTemplate(out, a.template, a.model)
}

// fail shows an error as a page.
func (c *Console) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var known httpError
	if errors.As(err, &known) {
		status = known.status
	}
	p := &errorPage{c.frame("Error")}
	p.Instead = err.Error()
	c.show(w, &answer{status: status, template: "error", model: p})
}

// errorPage says why there is no page.
type errorPage struct{ frame }

// frame is what all pages have.
type frame struct {
	*content
	Title    string
	Follows  bool   // it is sent what changes
	Version  string // differs whenever the page does, of one that follows
	ReadOnly bool
	Token    bool // one can log out
	Etcd     string
	Instead  string // why the page is not there; "": it is
	Fleet    *Fleet
}

func (f *frame) base() *frame { return f }

func (c *Console) frame(title string) frame {
	return frame{Title: title, ReadOnly: c.ReadOnly, Token: c.Token != "", Etcd: c.Etcd, Fleet: c.Backend.Fleet()}
}

func (c *Console) overview(r *http.Request) (*answer, error) {
	return &answer{template: "overview", model: newOverview(c.frame("Services"), r.Form)}, nil
}

func (c *Console) service(r *http.Request) (*answer, error) {
	s := c.Backend.Service(r.Form.Get("key"))
	if s == nil {
		return c.absent(r)
	}
	p := newServicePage(c.frame(s.Key), s, r.Form)
	p.Findings = c.Backend.Findings(s.Key, false)
	p.Links = linksTo(c.Links, s.Key)
	c.askLeases(r.Context(), p, p.undecided())
	p.choose(number(r.Form.Get("page")))
	c.askLeases(r.Context(), p, p.leaseIDs())
	p.markFound()
	return &answer{template: "service", model: p}, nil
}

// askLeases puts on a page what is left of leases. Where etcd does not say that once, it is not asked again.
func (c *Console) askLeases(ctx context.Context, p *servicePage, ids []int64) {
	if len(ids) == 0 || p.LeaseError != "" {
		return
	}
	leases, err := c.Backend.Leases(ctx, ids)
	if err != nil {
		p.LeaseError = err.Error()
	}
	p.takeLeases(leases)
}

// absent shows that there is nothing at a key. It is no error where the operator has just removed what was there.
func (c *Console) absent(r *http.Request) (*answer, error) {
	key := r.Form.Get("key")
	p := newAbsentPage(c.frame(key), key, r.Form)
	switch {
	case p.Fleet.Trouble != "":
		return nil, httpError{http.StatusServiceUnavailable, p.Fleet.Trouble}
	case p.Outcome == nil:
		return &answer{status: http.StatusNotFound, template: "absent", model: p}, nil
	}
	return &answer{template: "absent", model: p}, nil
}

// examine has the faults of a service looked for at once.
func (c *Console) examine(r *http.Request) (*answer, error) {
	key := r.Form.Get("key")
	if c.Backend.Service(key) != nil {
		c.Backend.Findings(key, true)
	}
	return &answer{location: at("/service", "key", key) + "#findings"}, nil
}

// historyPage is what etcd still knows of the past of a service.
type historyPage struct {
	frame
	Key     string
	History *History
}

func (c *Console) history(r *http.Request) (*answer, error) {
	key := r.Form.Get("key")
	h, err := c.Backend.History(r.Context(), key)
	if err != nil {
		return nil, err
	}
	return &answer{template: "history", model: &historyPage{c.frame("History of " + key), key, h}}, nil
}

// at returns a path with parameters, given as names and values.
func at(path string, params ...string) string {
	values := url.Values{}
	for i := 0; i < len(params); i += 2 {
		if params[i+1] != "" {
			values.Set(params[i], params[i+1])
		}
	}
	if len(values) == 0 {
		return path
	}
	return path + "?" + values.Encode()
}

// number reads a number from a form; what is none is 0.
func number(text string) int {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0
	}
	return n
}
