package steer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Kind is what an edit does to a live config.
type Kind string

// The kinds of edits.
const (
	Put     Kind = "policy"
	Remove  Kind = "remove"
	Split   Kind = "split"
	Drain   Kind = "drain"
	Undrain Kind = "undrain"
)

// Drains reports whether it is the list to drain that is edited. What others change meanwhile is kept then.
func (k Kind) Drains() bool { return k == Drain || k == Undrain }

// Asked is an edit as somebody asks for it.
type Asked struct {
	Key    string
	Kind   Kind
	Over   *int64 // the revision that the old config is to have, 0: there is to be none; nil: any
	DryRun bool   // nothing is written

	Config string                // to put
	Groups []serviceconfig.Split // to split the calls among; none: no longer
	Names  []string              // of the instances to drain or undrain; none: those of Choice
	Choice Choice

	// Where no live config says how to balance yet:
	Child      string // what it balances by, as [liveconfig.ChildPolicy] reads it; "": the default
	PreferZone bool
	NoRoutes   bool // it may lack routes, though instances say their lanes

	Force bool // nothing may be left to call in a group or a lane, and the key may lie in a namespace
}

// Edit is a change of a live config: what it was, what it shall be, and what comes of it.
type Edit struct {
	Asked
	Service *survey.Service // whose it is, with the old one
	New     string          // "": none
	Notes   []string        // for the user, after the difference
	Written int64           // the revision at which it was written; 0: it was not

	addrs      []string           // of what is to be drained
	was, shall *liveconfig.Config // empty where clients do not go by it
}

// Propose works out what an edit makes of the live config that is there now, and refuses what would have calls go where they
// must not, or fail. What it has worked out is returned beside an error, too: nil, if nothing could be read. Where what is to go
// is not there, the error is a [DoneError], and the edit changes nothing.
func Propose(ctx context.Context, s *store.Store, asked Asked) (*Edit, error) {
	if err := endpoint.CheckKey(asked.Key); err != nil {
		return nil, err
	}
	n, err := s.At(ctx, asked.Key)
	if err != nil {
		return nil, err
	}
	e := &Edit{Asked: asked, Service: n.Services[0]}
	if namespace, err := s.NamespaceOf(ctx, e.Key); err != nil || namespace != "" && e.Service.Config == nil && !e.Force {
		return e, cmp.Or(err, fmt.Errorf("others keep live policies in the namespace %q, where clients read none of %q: give --namespace %s", s.Full(namespace), e.Key, output.Shell(s.Full(namespace))))
	}
	err = e.plan()
	if err == nil && e.Kind == Drain && e.Changes() {
		e.addLeader(e.Service.Standing)
	}
	return e, err
}

// plan works out the new config, and what comes of it, of what has been read.
func (e *Edit) plan() error {
	err := e.change()
	if err != nil {
		e.New = e.OldText()
	}
	e.was, e.shall = parsed(e.OldText()), parsed(e.New)
	if err == nil && e.New != "" {
		err = liveconfig.Check(e.New)
	}
	if err == nil {
		err = e.foresee()
	}
	return err
}

// parsed returns a live config, an empty one in place of one that clients do not go by.
func parsed(text string) *liveconfig.Config {
	if c, err := liveconfig.Parse(text); err == nil {
		return c
	}
	return &liveconfig.Config{Config: new(serviceconfig.Config)}
}

func (e *Edit) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

// OldText returns the config that is replaced.
func (e *Edit) OldText() string {
	if e.Service.Config == nil {
		return ""
	}
	return string(e.Service.Config.Value)
}

// Changes reports whether the new config says anything else than the old. One that is empty says something else than none.
func (e *Edit) Changes() bool {
	return (e.Service.Config == nil) != (e.New == "") || liveconfig.Pretty([]byte(e.OldText())) != liveconfig.Pretty([]byte(e.New))
}

// Listed returns what the edit adds to the list to drain, and what it takes off.
func (e *Edit) Listed() (added, removed []string) {
	without := func(all, others []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(others, name) })
	}
	was, shall := e.was.Policy().Drain, e.shall.Policy().Drain
	return without(shall, was), without(was, shall)
}

// CheckOver returns [store.ErrChanged] for an old config of another revision than it was to have.
func (e *Edit) CheckOver() error {
	if found := e.Service.ConfigRevision(); e.Over != nil && *e.Over != found {
		return fmt.Errorf("it is at revision %d now, not at %d: %w", found, *e.Over, store.ErrChanged)
	}
	return nil
}

// Apply puts the new config in force, unless the old one is there no more. Then the error is [store.ErrChanged].
func (e *Edit) Apply(ctx context.Context, s *store.Store) (err error) {
	if err = e.CheckOver(); err == nil && e.Changes() && !e.DryRun {
		e.Written, err = s.Replace(ctx, store.ConfigOf(e.Key).From, e.Service.Config, e.New)
	}
	return err
}

// drainTime bounds how long a drain is done anew because others were faster.
const drainTime = 30 * time.Second

// Do proposes an edit and writes it, and says what changes, and what has come of it. A drain is done again and again until nobody
// else has changed the live config meanwhile. As [Propose] it returns an edit beside an error, too.
func Do(ctx context.Context, s *store.Store, asked Asked, out io.Writer, f output.Format) (*Edit, error) {
	again, until := backoff.Backoff{Base: 10 * time.Millisecond, Max: 250 * time.Millisecond}, time.Now().Add(drainTime)
	for ; ; store.Pause(ctx, again.Next()) {
		e, err := Propose(ctx, s, asked)
		if e != nil {
			err = cmp.Or(e.CheckOver(), err)
		}
		if err != nil {
			return e, err
		}
		err = e.Apply(ctx, s)
		if errors.Is(err, store.ErrChanged) && asked.Kind.Drains() && time.Now().Before(until) {
			continue
		}
		if f == output.FormatTable {
			e.foretell(out)
		}
		if err != nil {
			return e, err
		}
		err = output.Show(out, f, e.json(), func(out io.Writer) { output.Sayf(out, "%s\n", e.outcome()) })
		if err != nil && e.Written != 0 {
			err = fmt.Errorf("it is written, and in force: %w", err)
		}
		return e, err
	}
}
