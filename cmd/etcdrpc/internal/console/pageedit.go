package console

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
)

// confirmPage shows what an edit would change, before it is written.
type confirmPage struct {
	frame
	Key      string
	Edit     Edit
	Proposal *Proposal // nil: the edit was refused
	Refused  string    // why
	Conflict bool      // the live config is not the one that the operator saw
	Draft    string    // what the operator wants, to be edited on
	Typed    string    // what else was typed, in words
	Weights  []string  // of a split, as they were typed
	Revision int64     // of the live config that a further edit is made of
	Begins   bool      // the edit begins to say how to balance, which the operator may say otherwise
}

// readEdit reads the form of an edit.
func readEdit(form func(name string) string, values map[string][]string) (Edit, error) {
	e := Edit{
		Key: form("key"), Kind: EditKind(form("kind")), Instance: form("instance"), Child: form("child"),
		NoRoutes: form("noroutes") != "", Config: strings.ReplaceAll(form("config"), "\r\n", "\n"), Groups: values["group"],
	}
	var err error
	if e.Revision, err = strconv.ParseInt(form("revision"), 10, 64); err != nil || e.Revision < 0 {
		return e, httpError{http.StatusBadRequest, "the form does not say which revision it is about: load the page again"}
	}
	e.Weights, err = readWeights(values["weight"], form("step"))
	return e, err
}

// propose shows what an edit would change, or why it is refused, beside all that was typed.
func (c *Console) propose(r *http.Request) (*answer, error) {
	e, err := readEdit(r.Form.Get, r.Form)
	if errors.As(err, new(httpError)) {
		return nil, err
	}
	p := c.confirm(r, e)
	var proposal *Proposal
	if err == nil {
		proposal, err = c.Backend.Propose(r.Context(), e)
	}
	if err != nil {
		return p.refused(http.StatusUnprocessableEntity, err), nil
	}
	p.take(proposal)
	return &answer{template: "confirm", model: p}, nil
}

// apply writes what a confirm page has shown. If somebody else was faster, that is shown beside what was to be written.
func (c *Console) apply(r *http.Request) (*answer, error) {
	e, err := readEdit(r.Form.Get, r.Form)
	if errors.As(err, new(httpError)) {
		return nil, err
	}
	var written int64
	if err == nil {
		written, err = c.Backend.Apply(r.Context(), e)
	}
	if err == nil {
		return &answer{location: at("/service", "key", e.Key, "written", strconv.FormatInt(written, 10))}, nil
	}
	p := c.confirm(r, e)
	if !errors.Is(err, ErrConflict) {
		return p.refused(http.StatusUnprocessableEntity, err), nil
	}
	p.Conflict = true
	proposal, err := c.Backend.Propose(r.Context(), e)
	if err != nil {
		return p.refused(http.StatusConflict, err), nil
	}
	p.take(proposal)
	return &answer{status: http.StatusConflict, template: "confirm", model: p}, nil
}

func (c *Console) confirm(r *http.Request, e Edit) *confirmPage {
	p := &confirmPage{frame: c.frame("Confirm a change of " + e.Key), Key: e.Key, Edit: e, Draft: e.Config, Typed: e.typed(), Weights: r.Form["weight"], Revision: e.Revision}
	if r.Form.Get("step") != "" { // it makes other shares than those that were typed
		p.Weights = nil
		for _, g := range e.shares() {
			p.Weights = append(p.Weights, percentText(g.Percent))
		}
	}
	if s := c.Backend.Service(e.Key); s != nil && !s.Config.Balances && s.Config.Problem == "" && (e.Kind == EditDrain || e.Kind == EditSplit) {
		p.Begins = true
	}
	return p
}

// refused shows why an edit is not done.
func (p *confirmPage) refused(status int, err error) *answer {
	p.Refused = err.Error()
	return &answer{status: status, template: "confirm", model: p}
}

// Again reports whether what was typed, besides a text, can be typed otherwise here.
func (p *confirmPage) Again() bool {
	return p.Begins || p.Edit.Kind == EditSplit && len(p.Edit.Groups) > 0
}

// Over reports whether what is asked for takes the place of what somebody else has just written. A drain leaves that as it is.
func (p *confirmPage) Over() bool {
	return p.Conflict && p.Edit.Kind != EditDrain && p.Edit.Kind != EditUndrain
}

// Weight returns the weight of the group n.
func (e Edit) Weight(n int) uint32 {
	if n >= len(e.Weights) {
		return 0
	}
	return e.Weights[n]
}

func (p *confirmPage) take(proposal *Proposal) {
	p.Proposal, p.Draft, p.Revision = proposal, liveconfig.Pretty([]byte(proposal.Config)), proposal.Revision
	p.Conflict = p.Conflict || proposal.Moved
}

// shares returns the groups of a split with what they are of all of the calls.
func (e *Edit) shares() (groups []Split) {
	for n, group := range e.Groups {
		groups = append(groups, Split{Match: group, Weight: e.Weight(n)})
	}
	return Shared(groups)
}

// typed says in words what an edit was, where that is not a text to be edited on.
func (e *Edit) typed() string {
	switch e.Kind {
	case EditDrain:
		return "Drain " + e.Instance
	case EditUndrain:
		return "Undrain " + e.Instance
	case EditSplit:
		var parts []string
		for _, g := range e.shares() {
			parts = append(parts, fmt.Sprintf("%s %s %%", matchWords(g.Match), percentText(g.Percent)))
		}
		return "Split: " + strings.Join(parts, ", ")
	case EditRemove:
		return "Remove the live config"
	case EditUndo:
		return "Undo the last change of the live config"
	}
	return ""
}
