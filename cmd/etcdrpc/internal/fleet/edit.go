package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/steer"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const (
	maxDiff   = 4000 // lines of a difference
	shareRows = 500
)

// Propose is part of console.Backend.
func (f *Fleet) Propose(ctx context.Context, asked console.Edit) (*console.Proposal, error) {
	e, err := f.edit(ctx, asked)
	if err != nil {
		return nil, err
	}
	p := &console.Proposal{
		Config: string(printable.JSON([]byte(e.New))), Revision: revisionOf(e.Service.Config), Changes: e.Changes(), Warnings: e.Warnings(), Notes: e.Notes,
		Diff: diffLines(liveconfig.Pretty([]byte(e.OldText())), liveconfig.Pretty([]byte(e.New))),
	}
	p.Moved = p.Revision != asked.Revision && asked.Kind != console.EditDrain && asked.Kind != console.EditUndrain
	shareChange(p, e.Service, e.New)
	return p, nil
}

// Apply is part of console.Backend. What is asked for is worked out and checked anew, for instances may have come and gone
// since it was proposed.
func (f *Fleet) Apply(ctx context.Context, asked console.Edit) (int64, error) {
	e, err := f.edit(ctx, asked)
	if err != nil {
		return 0, err
	}
	switch found := revisionOf(e.Service.Config); {
	case !e.Changes():
		return found, nil // the button was pressed twice
	case found != asked.Revision:
		return 0, console.ErrConflict
	}
	err = e.Apply(ctx, f.store)
	if errors.Is(err, store.ErrChanged) {
		return 0, console.ErrConflict
	}
	if err == nil {
		f.awaitRevision(ctx, e.Written)
	}
	return e.Written, err
}

// revisionOf returns the revision of a live config, 0 if there is none.
func revisionOf(config *survey.Entry) int64 {
	if config == nil {
		return 0
	}
	return config.ModRevision
}

// edit works out what an edit makes of the live config that is there now, with the checks of the commands.
func (f *Fleet) edit(ctx context.Context, asked console.Edit) (*steer.Edit, error) {
	if err := endpoint.CheckKey(asked.Key); err != nil {
		return nil, err
	}
	found, _, err := f.store.Steered(ctx, asked.Key)
	if err != nil {
		return nil, err
	}
	e := &steer.Edit{Service: found, Revives: asked.Kind == console.EditUndrain}
	if asked.Kind == console.EditUndo {
		e.New, err = f.before(ctx, found, asked.Revision)
	} else {
		e.New, e.Notes, err = edited(found, asked, e.OldText())
	}
	if err != nil {
		return nil, err
	}
	if e.New != "" {
		if err := liveconfig.Check(e.New); err != nil {
			return nil, fmt.Errorf("clients would not go by it: %w", err)
		}
	}
	return e, nil
}

// before returns the live config that was there before one of a revision was written; "": there was none.
func (f *Fleet) before(ctx context.Context, s *survey.Service, revision int64) (string, error) {
	if revisionOf(s.Config) != revision {
		return "", errors.New("the live config has changed since: what would be undone is another change than the one that you saw")
	}
	return steer.Before(ctx, f.store, s.Key, s.Config)
}

// edited returns the live config that an edit makes of the one of a service.
func edited(s *survey.Service, asked console.Edit, old string) (text string, notes []string, err error) {
	switch asked.Kind {
	case console.EditPolicy:
		text = strings.TrimSpace(asked.Config)
		if text == "" {
			return "", nil, errors.New("the service config is empty: to remove the live config use the button for it")
		}
		return text, nil, nil
	case console.EditRemove:
		return "", nil, nil
	}
	c, err := liveconfig.Parse(old)
	if err != nil {
		return "", nil, fmt.Errorf("clients do not go by the live config that is there: %w", err)
	}
	begin := steer.Beginning{Child: asked.Child, NoRoutes: asked.NoRoutes}
	switch asked.Kind {
	case console.EditDrain:
		notes, err = begin.Drain(s, c, asked.Instance)
	case console.EditUndrain:
		if notes, err = steer.Undrain(s, c, asked.Instance); errors.Is(err, steer.ErrNotDrained) {
			return old, nil, nil
		}
	case console.EditSplit:
		var groups []serviceconfig.Split
		if groups, err = splits(asked); err == nil {
			err = begin.Split(s, c, groups)
		}
	default:
		err = fmt.Errorf("%.20q is no edit", asked.Kind)
	}
	if errors.Is(err, steer.ErrNoRoutes) {
		err = fmt.Errorf("%w. Put a live config with the routes of the proto file in force first, or say that it has none", err)
	}
	if err != nil {
		return "", nil, err
	}
	return c.String(), notes, nil
}

// splits reads the groups of a form, and the weights there.
func splits(asked console.Edit) ([]serviceconfig.Split, error) {
	if len(asked.Groups) == 0 || len(asked.Groups) != len(asked.Weights) {
		return nil, errors.New("the form has not as many weights as groups: load the page again")
	}
	all := make([]serviceconfig.Split, len(asked.Groups))
	for n, group := range asked.Groups {
		if err := json.Unmarshal([]byte(group), &all[n].Match); err != nil {
			return nil, fmt.Errorf("the group %.60q cannot be read: load the page again", group)
		}
		all[n].Weight = asked.Weights[n]
	}
	return all, nil
}

// diffLines returns the difference between two texts, cut where it is far too long for a page.
func diffLines(before, after string) []console.DiffLine {
	all := output.Lines(output.Diff(before, after))
	var out []console.DiffLine
	for _, line := range all[:min(len(all), maxDiff)] {
		out = append(out, console.DiffLine{Mark: line[:1], Text: line[2:]})
	}
	if len(all) > maxDiff {
		out = append(out, console.DiffLine{Mark: " ", Text: fmt.Sprintf("… and %d more lines", len(all)-maxDiff)})
	}
	return out
}

// shareChange fills in which share of the calls each instance has by the present live config and would have by another.
func shareChange(p *console.Proposal, s *survey.Service, config string) {
	if config == "" {
		p.NoShares = "Without a live config, clients go by what their code was generated with, which etcd does not hold."
		return
	}
	then := *s
	then.Config = &survey.Entry{Key: survey.ConfigPrefix + s.Key, Value: []byte(config)}
	after, err := steer.Explain(&then, steer.Caller{})
	if err != nil {
		p.NoShares = err.Error()
		return
	}
	before, err := steer.Explain(s, steer.Caller{})
	if err != nil {
		before = nil // clients go by what their code was generated with
	}
	known := before.ByEntry()
	for _, i := range after.Instances {
		share := console.Share{ID: i.Instance, Addr: i.Addr, Why: i.Why, Before: -1, After: i.Share}
		if was, ok := known[i.Entry]; ok {
			share.Before = was.Share
		}
		p.Shares = append(p.Shares, share)
	}
	slices.SortStableFunc(p.Shares, func(a, b console.Share) int { return cmp.Compare(b.After, a.After) })
	p.ShareNotes = after.Notes
	if n := len(p.Shares); n > shareRows {
		p.Shares, p.NoShares = p.Shares[:shareRows], fmt.Sprintf("These are the %d with the largest shares, of %d.", shareRows, n)
	}
}
