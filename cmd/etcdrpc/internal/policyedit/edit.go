package policyedit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Kind is a kind of edit of a live config.
type Kind string

// The kinds of edits.
const (
	Put     Kind = "policy"
	Remove  Kind = "remove"
	Split   Kind = "split"
	Drain   Kind = "drain"
	Undrain Kind = "undrain"
)

// Drains reports whether the edit changes only the list "drain". [Do] retries
// such an edit after a concurrent change.
func (k Kind) Drains() bool {
	return k == Drain || k == Undrain
}

// Request is a requested edit.
type Request struct {
	Key  string
	Kind Kind

	// required revision of the old config, 0 if there must be none; nil accepts
	// any
	Revision *int64

	DryRun bool // nothing is written

	Config string                // for Put
	Groups []serviceconfig.Split // for Split; empty removes the split

	// the instances to drain or undrain; if empty, Choice selects them
	Names []string

	Choice Choice

	// for Drain: the fields of the new entries except the instance; see
	// [Signed]
	Entry serviceconfig.Drained

	NoRoutes bool // allows a Put of a policy without routes although instances have lanes
	Force    bool // allows groups and lanes to become empty, and a key in a namespace
}

// Signed returns an entry of the list "drain" with its writer, which is the
// user and host of this process, and the time now. If after is not 0, the drain
// ends after that time.
func Signed(now time.Time, after time.Duration) serviceconfig.Drained {
	name := "unknown"
	if by, err := user.Current(); err == nil {
		name = by.Username
	}

	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}

	entry := serviceconfig.Drained{By: name, At: now.UTC().Format(time.RFC3339)}
	if after != 0 {
		entry.Until = now.Add(after).UTC().Format(time.RFC3339)
	}

	return entry
}

// Edit is a change of a live config, and its effects.
type Edit struct {
	Request
	Service *inventory.Service // has the old config
	New     string             // new config; "" if it is removed
	Notes   []string           // for the user, shown after the diff
	Written int64              // the revision of the write; 0 if nothing was written

	addrs []string // the addresses of the instances to drain

	// some of these instances still get calls, because no other instances
	// remain
	lastResort bool

	oldConfig, newConfig *serviceconfig.Config // empty if clients refuse it
}

// Propose computes an edit of the current live config. It refuses an edit that
// makes calls fail or go to wrong instances, and returns [store.ErrChanged] if
// the config is not at the required revision. With an error, Propose also
// returns the edit, unless etcd could not be read.
func Propose(ctx context.Context, s *store.Store, request Request) (*Edit, error) {
	if err := endpoint.CheckKey(request.Key); err != nil {
		return nil, err
	}

	n, err := s.At(ctx, request.Key)
	if err != nil {
		return nil, err
	}

	if n.Denied != nil {
		return nil, n.Denied
	}

	e := &Edit{Request: request, Service: n.Services[0]}
	found := e.Service.ConfigRevision()
	if e.Revision != nil && *e.Revision != found {
		return e, fmt.Errorf("revision is %d, not %d: %w", found, *e.Revision,
			store.ErrChanged)
	}

	if n.Within != "" && e.Service.Config == nil && !e.Force {
		return e, fmt.Errorf("%q is a namespace with live configs, and its clients do not read a live config of %q: give %s",
			s.Full(n.Within), e.Key,
			output.Within(s.Full(n.Within), e.Key[len(n.Within):]))
	}

	if e.perhapsUnread() {
		e.note("Clients with a namespace do not read this live config: give their namespace by --namespace, not in KEY.")
	}

	err = e.compute()
	if err == nil && e.Kind == Drain && e.Changes() {
		e.addLeader(e.Service.Candidates)
	}

	return e, err
}

// perhapsUnread reports whether the key may begin with a namespace, so that no
// client reads its live config.
func (e *Edit) perhapsUnread() bool {
	return e.Service.Namespace == "" &&
		strings.Count(strings.TrimPrefix(e.Key, "/"), "/") > 1
}

// compute computes the new config and its effects. It does no I/O.
func (e *Edit) compute() error {
	err := e.buildConfig()
	if err != nil {
		e.New = e.OldText()
	}

	e.oldConfig = parsed(e.OldText())
	e.newConfig = parsed(e.New)

	if err == nil && (e.New != "" || e.Kind == Put) {
		_, err = serviceconfig.ParseLive(e.New)
	}

	if err == nil {
		err = e.checkOutcome()
	}

	return err
}

// parsed returns the config in text, or an empty config if clients refuse text.
func parsed(text string) *serviceconfig.Config {
	if c, err := liveconfig.Parse(text); err == nil {
		return c.Config
	}

	return new(serviceconfig.Config)
}

func (e *Edit) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

// OldText returns the text of the old config, "" for none.
func (e *Edit) OldText() string {
	if e.Service.Config == nil {
		return ""
	}

	return string(e.Service.Config.Value)
}

// Changes reports whether the new config differs from the old one. An empty
// config differs from a missing one. An edit writes a config without a lease,
// so the same config on a lease differs, too.
func (e *Edit) Changes() bool {
	if e.Kind == Put && e.Service.Config != nil && e.Service.Config.Lease != 0 {
		return true
	}

	return (e.Service.Config == nil) != (e.New == "") ||
		liveconfig.Pretty([]byte(e.OldText())) != liveconfig.Pretty([]byte(e.New))
}

// Listed returns the names that the edit adds to the list "drain" and those
// that it removes.
func (e *Edit) Listed() (added, removed []string) {
	without := func(all, others []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(name string) bool {
			return slices.Contains(others, name)
		})
	}

	oldDrain := inventory.DrainedNames(e.oldConfig.Etcd())
	newDrain := inventory.DrainedNames(e.newConfig.Etcd())

	return without(newDrain, oldDrain), without(oldDrain, newDrain)
}

// Apply writes the new config. It returns [store.ErrChanged] if the old config
// has changed.
func (e *Edit) Apply(ctx context.Context, s *store.Store) (err error) {
	if e.Changes() && !e.DryRun {
		e.Written, err = s.Replace(ctx, store.ConfigOf(e.Key).From, e.Service.Config,
			e.New)
	}

	return err
}

// checkBack returns an error if a [Put] of the old config would be refused
// after the edit.
func (e *Edit) checkBack(noRoutes bool) error {
	return (&Edit{
		Request: Request{Key: e.Key, Kind: Put, Config: e.OldText(), NoRoutes: noRoutes},
		Service: e.withNewConfig(),
	}).compute()
}

// drainTimeout bounds how long a drain is retried after concurrent changes.
const drainTimeout = 30 * time.Second

// Do proposes an edit, writes it, and prints the diff and the outcome. A drain
// is retried after a concurrent change. Like [Propose], it may return an edit
// with an error.
func Do(
	ctx context.Context,
	s *store.Store,
	request Request,
	out io.Writer,
	f output.Format,
) (*Edit, error) {
	retry := backoff.Backoff{Base: 10 * time.Millisecond, Max: 250 * time.Millisecond}
	deadline := time.Now().Add(drainTimeout)

	for ; ; store.Pause(ctx, backoff.Jitter(retry.Bound())) {
		e, err := Propose(ctx, s, request)
		if err != nil {
			return e, err
		}

		err = e.Apply(ctx, s)
		if errors.Is(err, store.ErrChanged) &&
			request.Kind.Drains() &&
			time.Now().Before(deadline) {
			continue
		}

		if f == output.FormatTable {
			for _, line := range slices.Concat(e.Warnings(), e.Diff(), e.Notes) {
				output.Sayf(out, "%s\n", line)
			}
		}

		if err != nil {
			return e, err
		}

		j := e.json()

		return e, output.Show(out, f, j, func(out io.Writer) { e.print(out, j) })
	}
}

// print writes the outcome, and how to get the old config back.
func (e *Edit) print(out io.Writer, j EditJSON) {
	output.Sayf(out, "%s\n", e.outcome())

	switch {
	case j.Undo != "":
		output.Sayf(out, "Revision %d. To go back: %s\n", j.Revision, j.Undo)
	case j.Revision != 0:
		get := fmt.Sprintf("policy get --revision %d", j.Revision-1)
		output.Sayf(out,
			"Revision %d. The old config, which policy set would refuse: %s\n",
			j.Revision, e.Service.Command(get))
	}
}

// Warnings returns what the user must know before the diff: that some clients
// may refuse the live config, which instances it undrains, and that it newly
// replaces the load balancing of the proto file.
func (e *Edit) Warnings() (all []string) {
	if !e.Changes() {
		return nil
	}

	all = append(all, Unlinked(e.newConfig)...)
	_, removed := e.Listed()
	if len(removed) > 0 && e.Kind != Undrain { // a concurrent edit may have drained them
		all = append(all, "It undrains: "+output.SomeOf(removed))
	}

	if liveconfig.Replaces(e.newConfig) && !liveconfig.Replaces(e.oldConfig) {
		all = append(all,
			`It replaces all of load_balancing in the proto file. A policy "etcd" without a childPolicy would change only what it names.`)
	}

	return all
}

// Unlinked returns a warning if a config names a policy that clients do not
// link by default.
func Unlinked(c *serviceconfig.Config) []string {
	err := liveconfig.Linked(c)
	if err == nil {
		return nil
	}

	return []string{"Clients that do not link its policies refuse it, and keep the last valid one: " +
		err.Error()}
}

// Diff returns the lines of the old and the new config, prefixed by "- ", "+ "
// or, if unchanged, two spaces.
func (e *Edit) Diff() []string {
	return output.Diff(liveconfig.Pretty([]byte(e.OldText())),
		liveconfig.Pretty([]byte(e.New)))
}

// outcome returns what the edit has done.
func (e *Edit) outcome() string {
	policy := "The live config of " + e.Key

	switch {
	case !e.Changes():
		return policy + " already says this; nothing was written."
	case e.DryRun:
		return "Dry run: nothing was written."
	case e.perhapsUnread(): // what clients do is unknown
		return policy + " is changed."
	}

	names := e.Names
	if len(names) == 0 {
		names = slices.Concat(e.Listed())
	}

	listed := strings.Join(names, ", ")

	switch e.Kind {
	case Drain:
		if e.lastResort {
			return policy + " drains " + listed + ", but calls go to drained instances while no others are left."
		}

		if until := e.Entry.Until; until != "" {
			listed += " until " + until
		}

		return policy + " drains " + listed + "."

	case Undrain:
		return policy + " no longer drains " + listed + "."
	}

	if e.New == "" {
		return policy + " is removed: its clients use the generated one again."
	}

	return policy + " is in force."
}

// RevisionSign begins an argument of policy set: the argument names the live
// config of a revision.
const RevisionSign = "@"

// undo returns a command that undoes the edit unless the live config has
// changed since. It returns "" if nothing was written, or if policy set would
// refuse the old config. The command names the last revision before the edit,
// because etcd may have compacted the revision that wrote the old config.
func (e *Edit) undo() string {
	if e.Written == 0 {
		return ""
	}

	after := *e.Service
	after.Config = nil
	if e.New != "" {
		after.Config = &inventory.Entry{ModRevision: e.Written}
	}

	if e.Service.Config == nil {
		return after.Guarded("policy rm")
	}

	set := "policy set"

	err := e.checkBack(false)
	if errors.Is(err, ErrNoRoutes) {
		set = "policy set --no-routes"
		err = e.checkBack(true)
	}

	if err != nil {
		return ""
	}

	return after.Guarded(set, fmt.Sprint(RevisionSign, e.Written-1))
}

// EditJSON is the JSON output of an edit.
type EditJSON struct {
	Key     string `json:"key"`
	Changed bool   `json:"changed"`
	DryRun  bool   `json:"dryRun"`

	// the revision of the write; 0 if nothing was written
	Revision int64 `json:"revision"`

	Old any `json:"old"` // null if there was no live config
	New any `json:"new"` // null if the edit removes the live config

	// a command, unless nothing was written, or policy set would refuse the old
	// config
	Undo string `json:"undo,omitempty"`

	Notes []string `json:"notes,omitempty"`
}

func (e *Edit) json() EditJSON {
	j := EditJSON{
		Key:      e.Key,
		Changed:  e.Changes(),
		DryRun:   e.DryRun,
		Revision: e.Written,
		Undo:     e.undo(),
		Notes:    slices.Concat(e.Warnings(), e.Notes),
	}
	if e.Service.Config != nil {
		j.Old = liveconfig.AsJSON(e.OldText())
	}

	if e.New != "" {
		j.New = liveconfig.AsJSON(e.New)
	}

	return j
}
