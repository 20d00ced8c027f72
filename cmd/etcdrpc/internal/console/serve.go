package console

import (
	"bytes"
	"errors"
	"net/http"
)

// answer is what a page handler comes to: a template with its model, or another page to go to.
type answer struct {
	status   int // 0: fine
	template string
	model    view
	location string
}

type pageHandler func(r *http.Request) (*answer, error)

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

func (c *Console) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if known, ok := errors.AsType[httpError](err); ok {
		status = known.status
	}
	c.show(w, &answer{status: status, template: "error", model: c.errorPage(err)})
}
