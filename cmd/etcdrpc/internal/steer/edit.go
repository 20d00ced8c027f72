package steer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

var errNoPolicy = errors.New("there is no live policy: clients go by what their code was generated with")

// NoPolicy returns the error for a service without a live policy, by its key with the namespace.
func NoPolicy(key string) error { return fmt.Errorf("policy of %q: %w", key, errNoPolicy) }

// Edit is a change of a live policy.
type Edit struct {
	Service *survey.Service // whose policy it is, with the old one; without instances where they are not known
	New     string          // "" none
	Over    *int64          // the revision that the old one is to have, 0: there is to be none; nil: any
	DryRun  bool
	Revives bool     // it is meant to undrain
	Done    string   // what to say when it is written
	Notes   []string // for the user, after the difference
	Written int64    // the revision at which it was written; 0: it was not

	Before io.Writer // where to say what changes before it is written; nil: Show says it
}

// OldText returns the config that is replaced.
func (e *Edit) OldText() string {
	if e.Service.Config == nil {
		return ""
	}
	return string(e.Service.Config.Value)
}

// Changes reports whether the new config says anything else than the old.
func (e *Edit) Changes() bool {
	return liveconfig.Pretty([]byte(e.OldText())) != liveconfig.Pretty([]byte(e.New))
}

// Revision returns that of the old config, 0 if there is none.
func (e *Edit) Revision() int64 {
	if e.Service.Config == nil {
		return 0
	}
	return e.Service.Config.ModRevision
}

// Apply checks the new config, says what comes of it if e.Before is set, and writes it unless it says what the old one does.
func (e *Edit) Apply(ctx context.Context, s *store.Store) (err error) {
	if e.Over != nil && *e.Over != e.Revision() {
		return fmt.Errorf("policy of %q: it is at revision %d now, not at %d: %w", s.Full(e.Service.Key), e.Revision(), *e.Over, store.ErrChanged)
	}
	if e.New != "" {
		if err := liveconfig.Check(e.New); err != nil {
			return fmt.Errorf("policy of %q: %w", s.Full(e.Service.Key), err)
		}
	}
	if e.Before != nil {
		e.foretell(e.Before)
	}
	if e.DryRun || !e.Changes() {
		return nil
	}
	e.Written, err = s.Replace(ctx, store.ConfigOf(e.Service.Key).From, e.Service.Config, e.New)
	return err
}

// outcome says how it went.
func (e *Edit) outcome() string {
	switch {
	case !e.Changes():
		return "The live policy of " + e.Service.Key + " is this already; nothing was written."
	case e.DryRun:
		return "Dry run: nothing was written."
	}
	return e.Done
}

// Show writes what changes, and how it went.
func (e *Edit) Show(out io.Writer, f output.Format) error {
	return output.Show(out, f, EditJSON{
		Key: e.Service.Key, Changed: e.Changes(), DryRun: e.DryRun, Revision: e.Written,
		Old: liveconfig.AsJSON(e.OldText()), New: liveconfig.AsJSON(e.New), Notes: slices.Concat(e.Warnings(), e.Notes),
	}, e.print)
}

func (e *Edit) print(out io.Writer) {
	if e.Before == nil {
		e.foretell(out)
	}
	output.Sayf(out, "%s\n", e.outcome())
}

// foretell says what changes, and what comes of it.
func (e *Edit) foretell(out io.Writer) {
	difference := output.Lines(output.Diff(liveconfig.Pretty([]byte(e.OldText())), liveconfig.Pretty([]byte(e.New))))
	for _, line := range slices.Concat(e.Warnings(), difference, e.Notes) {
		output.Sayf(out, "%s\n", line)
	}
}

// Undo takes back what the edit of a list to drain has written: all of it or, where somebody has changed the live policy
// since, what it added to the list.
func (e *Edit) Undo(ctx context.Context, s *store.Store) error {
	key := e.Service.Key
	_, err := s.Replace(ctx, store.ConfigOf(key).From, &survey.Entry{ModRevision: e.Written}, e.OldText())
	if !errors.Is(err, store.ErrChanged) {
		return err
	}
	added, _ := e.Listed()
	_, err = EditDrained(ctx, s, key, Edit{}, func(found *survey.Service, c *liveconfig.Config) ([]string, error) {
		return undrain(found, c, added)
	})
	if errors.Is(err, ErrNotDrained) {
		return nil
	}
	return err
}

// Listed returns what the edit adds to the list to drain, and what it takes off.
func (e *Edit) Listed() (added, removed []string) {
	before, after := listed(e.OldText()), listed(e.New)
	without := func(all, others []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(others, name) })
	}
	return without(after, before), without(before, after)
}

// listed returns the list to drain of a live config.
func listed(text string) []string {
	c, err := liveconfig.Parse(text)
	if err != nil || c.Etcd() == nil {
		return nil
	}
	return c.Etcd().Drain
}

// EditJSON is the JSON of an edit.
type EditJSON struct {
	Key      string   `json:"key"`
	Changed  bool     `json:"changed"`
	DryRun   bool     `json:"dryRun"`
	Revision int64    `json:"revision"` // of etcd, at which it was written; 0: it was not
	Old      any      `json:"old"`      // null: none
	New      any      `json:"new"`      // null: none
	Notes    []string `json:"notes,omitempty"`
}
