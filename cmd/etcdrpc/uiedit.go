package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const (
	fieldSplit  = "split"
	maxDiff     = 4000 // lines of a difference
	shareRows   = 500
	kindsOfEdit = "drain, undrain, split, policy or remove"
)

// Propose is part of console.Backend. It makes the same checks as the commands.
func (f *liveFleet) Propose(ctx context.Context, asked console.Edit) (*console.Proposal, error) {
	if err := endpoint.CheckKey(asked.Key); err != nil {
		return nil, err
	}
	found := visible(ctx, f.store, asked.Key)
	if found == nil {
		found = &service{key: asked.Key}
	}
	var err error
	if found.config, err = f.store.get(ctx, configPrefix+asked.Key); err != nil {
		return nil, err
	}
	e := edit{key: asked.Key, old: found.config, service: found}
	p := &console.Proposal{}
	if e.old != nil {
		p.Revision = e.old.modRevision
	}
	p.Moved = p.Revision != asked.Revision && asked.Kind != console.EditDrain && asked.Kind != console.EditUndrain
	if e.new, e.notes, err = edited(found, asked, e.oldText()); err != nil {
		return nil, err
	}
	if e.new != "" {
		if err := checkConfig(e.new); err != nil {
			return nil, fmt.Errorf("clients would not go by it: %w", err)
		}
	}
	p.Config, p.Changes, p.Warnings, p.Notes = string(printable.JSON([]byte(e.new))), e.changes(), e.warnings(), e.notes
	p.Diff = diffLines(pretty([]byte(e.oldText())), pretty([]byte(e.new)))
	p.Shares, p.NoShares = shareChange(found, e.new)
	return p, nil
}

// edited returns the live config that an edit makes of the one of a service.
func edited(s *service, asked console.Edit, old string) (text string, notes []string, err error) {
	switch asked.Kind {
	case console.EditPolicy:
		text = strings.TrimSpace(asked.Config)
		if text == "" {
			return "", nil, errors.New("the service config is empty: to remove the live config use the button for it")
		}
		return text, nil, nil
	case console.EditRemove:
		if s.config == nil {
			return "", nil, noPolicy(s.key)
		}
		return "", nil, nil
	}
	c, err := parseConfig([]byte(old))
	if err != nil {
		return "", nil, err
	}
	switch asked.Kind {
	case console.EditDrain:
		opts := drainOptions{child: cmp.Or(asked.Child, "round_robin"), noRoutes: asked.NoRoutes}
		notes, err = opts.drain(s, c, asked.Instance)
	case console.EditUndrain:
		notes, err = undrain(s, c, asked.Instance)
	case console.EditSplit:
		err = setSplit(s, c, asked)
	default:
		err = fmt.Errorf("%.20q is no edit: want %s", asked.Kind, kindsOfEdit)
	}
	if err != nil {
		return "", nil, err
	}
	return c.String(), notes, nil
}

// setSplit divides the calls among groups by new weights. Groups that are there keep what else is said of them.
func setSplit(s *service, c *liveConfig, asked console.Edit) error {
	if len(asked.Groups) == 0 || len(asked.Groups) != len(asked.Weights) {
		return errors.New("the form has not as many weights as groups: load the page again")
	}
	splits := make([]serviceconfig.Split, len(asked.Groups))
	for n, group := range asked.Groups {
		if err := json.Unmarshal([]byte(group), &splits[n].Match); err != nil {
			return fmt.Errorf("the group %.60q cannot be read: load the page again", group)
		}
		splits[n].Weight = asked.Weights[n]
	}
	if !c.namesPolicy() && !asked.NoRoutes {
		if err := s.merged().checkNoLanes(); err != nil {
			return err
		}
	}
	child, err := childPolicy(cmp.Or(asked.Child, "round_robin"))
	if err != nil {
		return err
	}
	drained, err := c.drained()
	if err != nil {
		return err
	}
	if err := c.setDrained(drained, child); err != nil {
		return err
	}
	if c.etcd[fieldSplit], err = json.Marshal(splits); err != nil {
		return err
	}
	return c.put()
}

// diffLines returns the difference between two texts, cut where it is far too long for a page.
func diffLines(before, after string) []console.DiffLine {
	all := lines(diff(before, after))
	var out []console.DiffLine
	for _, line := range all[:min(len(all), maxDiff)] {
		out = append(out, console.DiffLine{Mark: line[:1], Text: line[2:]})
	}
	if len(all) > maxDiff {
		out = append(out, console.DiffLine{Mark: " ", Text: fmt.Sprintf("… and %d more lines", len(all)-maxDiff)})
	}
	return out
}

// shareChange returns which share of the calls each instance has by the present live config and would have by another.
func shareChange(s *service, config string) (all []console.Share, none string) {
	if config == "" {
		return nil, "Without a live config, clients go by what their code was generated with, which etcd does not hold."
	}
	then := *s
	then.config = &entry{key: configPrefix + s.key, value: []byte(config)}
	after, err := explain(&then, caller{})
	if err != nil {
		return nil, err.Error()
	}
	known := make(map[string]explained)
	before, err := explain(s, caller{})
	if err == nil {
		known = before.byAddr()
	}
	for _, i := range after.Instances {
		share := console.Share{ID: i.Instance, Addr: i.Addr, Why: i.Why, Before: -1, After: i.Share}
		if was, ok := known[i.Addr]; ok {
			share.Before = was.Share
		}
		all = append(all, share)
	}
	slices.SortStableFunc(all, func(a, b console.Share) int { return cmp.Compare(b.After, a.After) })
	if len(all) > shareRows {
		return all[:shareRows], fmt.Sprintf("These are the %d with the largest shares, of %d.", shareRows, len(all))
	}
	return all, ""
}

// Apply is part of console.Backend.
func (f *liveFleet) Apply(ctx context.Context, key, config string, revision int64) (int64, error) {
	if err := endpoint.CheckKey(key); err != nil {
		return 0, err
	}
	e := edit{key: key, new: config}
	if revision != 0 {
		e.old = &entry{key: configPrefix + key, modRevision: revision}
	}
	if config == "" && revision == 0 {
		return 0, noPolicy(key)
	}
	if config != "" {
		if err := checkConfig(config); err != nil {
			return 0, fmt.Errorf("policy of %q: %w", key, err)
		}
	}
	written, err := f.store.replace(ctx, configPrefix+key, e.old, config)
	if errors.Is(err, errChanged) {
		return 0, console.ErrConflict
	}
	if err == nil {
		f.awaitRevision(ctx, written)
	}
	return written, err
}
