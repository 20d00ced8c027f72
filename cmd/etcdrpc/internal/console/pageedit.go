package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Bounds of what is shown of an edit.
const (
	maxDiff   = 4000 // lines of a difference
	shareRows = 500
)

// confirmPage shows what an edit would change, before it is written.
type confirmPage struct {
	frame
	steer.Asked
	Edit     *steer.Edit // nil: it was refused
	Refused  string      // why
	Conflict bool        // the live config is not the one that the operator saw
	New      string      // the live config to be written
	Diff     []string    // each line after its mark
	Draft    string      // what the operator wants, to be edited on
	Weights  []string    // of a split, as they were typed
	Revision int64       // of the live config that a further edit is made of
	Begins   bool        // the edit begins to say how to balance, which the operator may say otherwise
	Routes   bool        // the operator may say that no routes are lost

	Shares     []steer.Explained
	ShareNotes []string
	NoShares   string // why there are none, or no more
}

// readEdit reads the form of an edit.
func readEdit(form url.Values) (steer.Asked, error) {
	revision, err := strconv.ParseInt(form.Get("revision"), 10, 64)
	asked := steer.Asked{
		Key: form.Get("key"), Kind: steer.Kind(form.Get("kind")), Over: &revision, Names: []string{form.Get("instance")}, Child: form.Get("child"),
		NoRoutes: form.Get("noroutes") != "", Reason: strings.TrimSpace(form.Get("reason")), Config: strings.TrimSpace(strings.ReplaceAll(form.Get("config"), "\r\n", "\n")),
	}
	if err != nil || revision < 0 {
		return asked, httpError{http.StatusBadRequest, "the form does not say which revision it is about: load the page again"}
	}
	asked.Groups, err = readGroups(form["group"], form["weight"], form.Get("step"))
	switch {
	case err != nil:
		return asked, err
	case asked.Kind == steer.Split && len(asked.Groups) == 0:
		return asked, errWeights
	case asked.Kind == steer.Put && asked.Config == "":
		return asked, errors.New("the service config is empty: to remove the live config use the button for it")
	case asked.Kind == steer.Put:
		if err := liveconfig.Check(asked.Config); err != nil {
			return asked, fmt.Errorf("clients would not go by it: %w", err)
		}
	}
	return asked, nil
}

// propose shows what an edit would change, or why it is refused, beside all that was typed.
func (c *Console) propose(r *http.Request) (*answer, error) { return c.edit(r, false) }

// apply writes what a confirm page has shown, worked out anew, for instances may have come and gone since. If somebody else was
// faster, that is shown beside what was to be written.
func (c *Console) apply(r *http.Request) (*answer, error) { return c.edit(r, true) }

func (c *Console) edit(r *http.Request, write bool) (*answer, error) {
	asked, err := readEdit(r.Form)
	if errors.As(err, new(httpError)) {
		return nil, err
	}
	p := &confirmPage{frame: c.frame("Confirm a change of " + asked.Key), Asked: asked, Draft: asked.Config, Revision: *asked.Over}
	if r.Form.Get("step") == "" { // it makes other shares than those that were typed
		p.Weights = r.Form["weight"]
	}
	for err == nil {
		var e *steer.Edit
		if e, err = c.Backend.Propose(r.Context(), asked); err != nil {
			break
		}
		moved := e.CheckOver() != nil
		switch {
		case !write:
			p.Conflict = moved && !e.Kind.Drains()
			return c.proposed(p, http.StatusOK, e), nil
		case !e.Changes(): // the button was pressed twice
			return written(p.Key, e.Service.ConfigRevision()), nil
		case moved:
			p.Conflict = true
			return c.proposed(p, http.StatusConflict, e), nil
		}
		if err = c.Backend.Apply(r.Context(), e); err == nil {
			return written(p.Key, e.Written), nil
		}
		if errors.Is(err, store.ErrChanged) { // just now: what has become of it is proposed anew
			err = nil
		}
	}
	return c.refused(p, err), nil
}

// written leads to a service whose live config has been written at a revision.
func written(key string, revision int64) *answer {
	return &answer{location: at("/service", "key", key, "written", strconv.FormatInt(revision, 10))}
}

// refused shows why an edit is not done.
func (c *Console) refused(p *confirmPage, err error) *answer {
	p.Refused = err.Error()
	switch {
	case errors.Is(err, steer.ErrNoRoutes):
		p.Refused, p.Routes = p.Refused+". Put a live config with the routes of the proto file in force first, or say that it has none", true
	case errors.Is(err, store.ErrChanged):
		p.Refused = "the live config has changed since: what would be undone is another change than the one that you saw"
	}
	return c.showEdit(p, refusal(err))
}

// refusal returns the status of a page that says why an edit is not done: whether etcd has not answered or denies it, or the edit
// is at fault.
func refusal(err error) int {
	switch {
	case errors.As(err, new(store.UnansweredError)):
		return http.StatusServiceUnavailable
	case errors.Is(err, store.ErrDenied):
		return http.StatusForbidden
	}
	return http.StatusUnprocessableEntity
}

// proposed shows what comes of an edit.
func (c *Console) proposed(p *confirmPage, status int, e *steer.Edit) *answer {
	p.Edit, p.New, p.Revision = e, string(printable.JSON([]byte(e.New))), e.Service.ConfigRevision()
	p.Draft = liveconfig.Pretty([]byte(p.New))
	p.Diff = e.Diff()
	if more := len(p.Diff) - maxDiff; more > 0 {
		p.Diff = append(slices.Clip(p.Diff[:maxDiff]), fmt.Sprintf("  … and %d more lines", more))
	}
	if e.New == "" {
		p.NoShares = "Without a live config, clients go by what their code was generated with, which etcd does not hold."
		return c.showEdit(p, status)
	}
	shares, notes, err := e.Shares()
	if err != nil {
		p.NoShares = err.Error()
	}
	p.Shares, p.ShareNotes = shares, slices.DeleteFunc(notes, func(note string) bool { return slices.Contains(e.Notes, note) })
	if n := len(p.Shares); n > shareRows {
		p.Shares, p.NoShares = p.Shares[:shareRows], fmt.Sprintf("These are the %d with the largest shares, of %d.", shareRows, n)
	}
	return c.showEdit(p, status)
}

func (c *Console) showEdit(p *confirmPage, status int) *answer {
	s := c.Backend.Service(p.Key)
	p.Begins = s != nil && !s.Config.Balances && s.Config.Problem == "" && (p.Kind == steer.Drain || p.Kind == steer.Split)
	return &answer{status: status, template: "confirm", model: p}
}

// Again reports whether what was typed, besides a text, can be typed otherwise here.
func (p *confirmPage) Again() bool {
	return p.Begins || p.Routes || p.Kind == steer.Split && len(p.Groups) > 0
}

// Replaces reports whether what is asked for takes the place of what somebody else has just written. A drain leaves that as it is.
func (p *confirmPage) Replaces() bool { return p.Conflict && !p.Kind.Drains() }

// Writes returns the edit that the button does. That of an undone removal writes what the page has shown: no revision tells
// whether another live config has come and gone meanwhile.
func (p *confirmPage) Writes() steer.Kind {
	if p.Kind == steer.Undo && p.Revision == 0 {
		return steer.Put
	}
	return p.Kind
}

// Typed says in words what an edit was, where that is not a text to be edited on.
func (p *confirmPage) Typed() string {
	switch p.Kind {
	case steer.Drain:
		return "Drain " + p.Names[0]
	case steer.Undrain:
		return "Undrain " + p.Names[0]
	case steer.Split:
		var parts []string
		for _, g := range Shared(p.Groups) {
			parts = append(parts, fmt.Sprintf("%s %s %%", matchWords(g.Match), percentText(g.Percent)))
		}
		return "Split: " + strings.Join(parts, ", ")
	case steer.Remove:
		return "Remove the live config"
	case steer.Undo:
		return "Undo the last change of the live config"
	}
	return ""
}
