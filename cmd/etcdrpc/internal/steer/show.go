package steer

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Warnings say what the policy drains no longer and, where a live policy comes to say how to balance
// and none did, what is lost, for clients go no more by what the proto file says of that. They come before all else that is said of the edit.
func (e *Edit) Warnings() (all []string) {
	if !e.Changes() {
		return nil
	}
	all = append(all, Unlinked(e.shall.Config)...)
	if _, removed := e.Listed(); len(removed) > 0 && e.Kind != Undrain { // maybe by somebody else, meanwhile
		all = append(all, "It undrains: "+output.SomeOf(removed))
	}
	if e.was.Balances() || !e.shall.Balances() {
		return all
	}
	policy, picks := e.shall.Policy(), e.shall.LoadBalancing
	if len(policy.ChildPolicy) > 0 {
		picks = policy.ChildPolicy
	}
	all = append(all, fmt.Sprintf("No live policy said how to balance until now. This one replaces all of load_balancing in the proto file, which etcd does not hold: "+
		"the policy, routes (lanes) and every other option that is not repeated here. It balances by %s. "+
		"Back to the proto file: etcdrpc policy rm %s",
		policyNames(picks), e.Service.Word()))
	if names := laned(e.Service.Merged()); policy.Route == nil && len(names) > 0 {
		all = append(all, "It has no routes, so calls without a lane reach those that say they are in one, too: "+output.SomeOf(names))
	}
	return all
}

// Unlinked says that not every client goes by a live config, if that is so.
func Unlinked(c *serviceconfig.Config) []string {
	err := liveconfig.Linked(c)
	if err == nil {
		return nil
	}
	return []string{"Clients refuse it, and keep the last good one, unless their own code links what it names; those say that " + err.Error()}
}

// Diff returns the lines of the old config and the new, each after "- ", "+ " or, where it stays, two spaces.
func (e *Edit) Diff() []string {
	return output.Lines(output.Diff(liveconfig.Pretty([]byte(e.OldText())), liveconfig.Pretty([]byte(e.New))))
}

// foretell says what changes, and what comes of it.
func (e *Edit) foretell(out io.Writer) {
	for _, line := range slices.Concat(e.Warnings(), e.Diff(), e.Notes) {
		output.Sayf(out, "%s\n", line)
	}
}

// outcome says what has come of the edit.
func (e *Edit) outcome() string {
	switch {
	case !e.Changes():
		return "The live policy of " + e.Key + " already says this; nothing was written."
	case e.DryRun:
		return "Dry run: nothing was written."
	}
	names := e.Names
	if len(names) == 0 {
		names = slices.Concat(e.Listed())
	}
	switch e.Kind {
	case Remove:
		return "The live policy of " + e.Key + " is removed: its clients go back to the generated one."
	case Split:
		if len(e.Groups) == 0 {
			return "The calls of " + e.Key + " are split no longer."
		}
		return "The calls of " + e.Key + " go by this split."
	case Drain:
		return "Clients of " + e.Key + " send no new calls to " + strings.Join(names, ", ") + "."
	case Undrain:
		return "Clients of " + e.Key + " send calls to " + strings.Join(names, ", ") + " again."
	}
	return "The live policy of " + e.Key + " is in force."
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

func (e *Edit) json() EditJSON {
	j := EditJSON{Key: e.Key, Changed: e.Changes(), DryRun: e.DryRun, Revision: e.Written, Notes: slices.Concat(e.Warnings(), e.Notes)}
	if e.Service.Config != nil {
		j.Old = liveconfig.AsJSON(e.OldText())
	}
	if e.New != "" {
		j.New = liveconfig.AsJSON(e.New)
	}
	return j
}
