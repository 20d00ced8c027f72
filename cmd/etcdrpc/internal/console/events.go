package console

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// heartbeat spaces the events of a listener where nothing changes. Pages ask for the leases again then.
	heartbeat = 5 * time.Second
	// eventTime bounds the writing of one event.
	eventTime = 10 * time.Second
)

// events tells a page that what it shows has changed: all services, or the one at key. An event is all that is sent; the
// page then asks for itself again.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
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
	send := func(event string) bool {
		if control.SetWriteDeadline(time.Now().Add(eventTime)) != nil {
			return false
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata:\n\n", event); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	c.follow(r, send)
}

// follow sends events until the page or the console ends, or one cannot be sent.
func (c *Console) follow(r *http.Request, send func(event string) bool) {
	key, whole := r.URL.Query().Get("key"), !r.URL.Query().Has("key")
	version := func() string {
		f := c.Backend.Fleet()
		v := f.Trouble
		if s := f.Summary(key); s != nil {
			found := c.Backend.Findings(key, false)
			v += s.Version + found.At.String() + strconv.FormatBool(found.Running)
		}
		return v
	}
	changed := c.Backend.Changed()
	seen := ""
	if !whole {
		seen = version()
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	// What changed between the page and this is told by the first event.
	for ok := send("changed"); ok; {
		select {
		case <-r.Context().Done():
			return
		case <-c.done:
			return
		case <-beat.C:
			ok = send("beat")
		case <-changed:
			changed = c.Backend.Changed()
			if !whole {
				now := version()
				if now == seen {
					continue
				}
				seen = now
			}
			ok = send("changed")
		}
	}
}
