package console

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// heartbeat spaces the events of a listener where nothing changes. Leases are asked for again then.
	heartbeat = 5 * time.Second
	// eventTime bounds the writing of one event.
	eventTime = 10 * time.Second
	// maxFollowed bounds the pages that are kept for who else follows them, and those that were shown last.
	maxFollowed = 256
)

// followed are the pages that somebody follows, so that those who follow the same one have it made once for all.
type followed struct {
	mu    sync.Mutex
	pages map[string]*followedPage // by their addresses
	shown map[string]shown         // what browsers have that were shown a page, by its version
}

// show takes in what a browser is shown, so that it is sent no more than what differs when it follows.
func (f *followed) show(version string, s shown) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.shown) >= maxFollowed || f.shown == nil {
		f.shown = make(map[string]shown)
	}
	f.shown[version] = s
}

// of returns what a browser has that was shown a version, nothing where that is not known.
func (f *followed) of(version string) shown {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shown[version]
}

// followedPage is a page as it was when it was made last.
type followedPage struct {
	mu      sync.Mutex
	changed <-chan struct{} // not closed: nothing has changed since
	at      time.Time
	content *content
	err     error
}

// at returns the page of an address, of which there are few at once.
func (f *followed) at(address string) *followedPage {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.pages) >= maxFollowed || f.pages == nil {
		f.pages = make(map[string]*followedPage)
	}
	if f.pages[address] == nil {
		f.pages[address] = new(followedPage)
	}
	return f.pages[address]
}

// look returns what a page shows now, and a channel that is closed when that may be something else.
func (c *Console) look(ctx context.Context, address *url.URL) (shows *content, changed <-chan struct{}, err error) {
	p := c.followed.at(address.String())
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = c.Backend.Changed()
	if p.changed == changed && time.Since(p.at) < heartbeat/2 {
		return p.content, changed, p.err
	}
	p.changed, p.at = changed, time.Now()
	p.content, p.err = c.make(ctx, address)
	return p.content, changed, p.err
}

// make makes the page of an address, or what is said instead.
func (c *Console) make(ctx context.Context, address *url.URL) (*content, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handlerTime) // others may wait for the page, too
	defer cancel()
	r := (&http.Request{Method: http.MethodGet, URL: address, Form: address.Query()}).WithContext(ctx)
	handle := c.overview
	if address.Path == "/service" {
		handle = c.service
	}
	a, err := handle(r)
	if err != nil {
		a = &answer{template: "error", model: c.errorPage(err)}
	}
	return c.render(a.template, a.model)
}

// events sends a page what it shows otherwise than at first: the address of the page is at, and what it showed is of the
// version since.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	address, err := url.Parse(r.URL.Query().Get("at"))
	if err != nil || address.Path != "/" && address.Path != "/service" {
		http.Error(w, "No page there follows what it shows.", http.StatusBadRequest)
		return
	}
	select {
	case c.listeners <- struct{}{}:
		defer func() { <-c.listeners }()
	default:
		http.Error(w, "Too many pages follow already.", http.StatusServiceUnavailable)
		return
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		http.Error(w, "Events cannot be sent over this connection.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	c.follow(r.Context(), address, r.URL.Query().Get("since"), func(event string, data any) bool {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false) // it goes to the script, which is to have it short
		err := encoder.Encode(data)  // with a line feed, and without another one
		if err == nil {
			err = control.SetWriteDeadline(time.Now().Add(eventTime))
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n", event, text.Bytes())
		}
		return err == nil && control.Flush() == nil // or the browser has gone
	})
}

// follow sends what changes until the request ends, or it cannot be sent. A page that has become another one,
// as where a service comes to be, is to be loaded again.
func (c *Console) follow(ctx context.Context, address *url.URL, version string, send func(event string, data any) bool) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	browser := c.followed.of(version)
	first := browser.name
	for {
		page, changed, err := c.look(ctx, address)
		if err != nil {
			c.Log.Printf("follow %s: %v", address.Path, err)
			return
		}
		first = cmp.Or(first, page.name)
		if first == "absent" && page.name == "service" {
			send("reload", nil)
			return
		}
		n := page.since(browser)
		browser = browser.merge(page.sums(), page.table != "")
		event := "beat"
		if !n.empty() {
			event = "news"
		}
		if !send(event, n) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		case <-changed:
		}
	}
}
