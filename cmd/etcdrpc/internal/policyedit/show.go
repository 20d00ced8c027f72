package policyedit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Warnings returns what the user must know before the diff: which instances are undrained, and that a first live policy
// replaces the load balancing of the proto file.
func (e *Edit) Warnings() (all []string) {
	if !e.Changes() {
		return nil
	}
	all = append(all, Unlinked(e.newConfig.Config)...)
	if _, removed := e.Listed(); len(removed) > 0 && e.Kind != Undrain { // a concurrent edit may have drained them
		all = append(all, "It undrains: "+output.SomeOf(removed))
	}
	if e.oldConfig.Balances() || !e.newConfig.Balances() {
		return all
	}
	policy, picks := e.newConfig.Policy(), e.newConfig.LoadBalancing
	if len(policy.ChildPolicy) > 0 {
		picks = policy.ChildPolicy
	}
	all = append(all, fmt.Sprintf("The live policy replaces all of load_balancing in the proto file: the policy, the routes (lanes) "+
		"and every option that it does not repeat. etcdrpc cannot copy them: etcd has no proto file. "+
		"The live policy balances by %s.", policyNames(picks)))
	if names := laneNames(e.Service.Merged()); policy.Route == nil && len(names) > 0 {
		all = append(all, "It has no routes, so calls without a lane also reach the instances in lanes: "+output.SomeOf(names))
	}
	return all
}

// Unlinked returns a warning if a config names a policy that clients do not link by default.
func Unlinked(c *serviceconfig.Config) []string {
	err := liveconfig.Linked(c)
	if err == nil {
		return nil
	}
	return []string{"Clients that do not link its policies refuse it, and keep the last valid one: " + err.Error()}
}

// Diff returns the lines of the old and the new config, prefixed by "- ", "+ " or, if unchanged, two spaces.
func (e *Edit) Diff() []string {
	return output.Diff(liveconfig.Pretty([]byte(e.OldText())), liveconfig.Pretty([]byte(e.New)))
}

// outcome returns what the edit has done.
func (e *Edit) outcome() string {
	switch {
	case !e.Changes():
		return "The live policy of " + e.Key + " already says this; nothing was written."
	case e.DryRun:
		return "Dry run: nothing was written."
	case e.perhapsUnread(): // what clients do is unknown
		return "The live policy of " + e.Key + " is changed."
	}
	names := e.Names
	if len(names) == 0 {
		names = slices.Concat(e.Listed())
	}
	switch e.Kind {
	case Remove:
		return "The live policy of " + e.Key + " is removed: its clients use the generated one again."
	case Drain:
		return "Clients of " + e.Key + " send no new calls to " + strings.Join(names, ", ") + "."
	case Undrain:
		return "The live policy of " + e.Key + " no longer drains " + strings.Join(names, ", ") + "."
	}
	return "The live policy of " + e.Key + " is in force."
}

// EditJSON is the JSON output of an edit.
type EditJSON struct {
	Key      string   `json:"key"`
	Changed  bool     `json:"changed"`
	DryRun   bool     `json:"dryRun"`
	Revision int64    `json:"revision"` // the revision of the write; 0 if nothing was written
	Old      any      `json:"old"`      // null if there was no live policy
	New      any      `json:"new"`      // null if the edit removes the live policy
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
