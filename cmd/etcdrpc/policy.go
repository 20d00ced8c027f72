package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func newPolicy(a *app) *cobra.Command {
	policy := &cobra.Command{
		Use:   "policy",
		Short: "Show and change the live service config of a service",
		Long: `A live policy is a gRPC service config in etcd, at _grpc_config/KEY. Every client of
the service at KEY goes by it within moments: it is laid over the config that was
generated from the proto file, top-level field by field.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("policy needs one of explain, get, set and rm")}
		},
	}
	policy.AddCommand(newPolicyGet(a), newPolicySet(a), newPolicyRm(a), newPolicyExplain(a))
	return policy
}

func newPolicyGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "get KEY",
		Short:             "Show the live policy",
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			live, err := s.get(ctx, configPrefix+args[0])
			if err != nil {
				return err
			}
			if live == nil {
				return noPolicy(args[0])
			}
			out := cmd.OutOrStdout()
			if a.output == formatJSON {
				return writeJSON(out, policyJSON{args[0], s.full(live.key), live.modRevision, asJSON(string(live.value))})
			}
			sayLines(out, pretty(live.value))
			if err := checkConfig(string(live.value)); err != nil {
				return fmt.Errorf("clients do not go by this live policy: %w", err)
			}
			return nil
		}),
	}
}

func noPolicy(key string) error {
	return fmt.Errorf("%s has no live policy: its clients go by what their code was generated with", key)
}

type policyJSON struct {
	Key      string `json:"key"`
	EtcdKey  string `json:"etcdKey"`
	Revision int64  `json:"revision"`
	Config   any    `json:"config"` // a string where it is no JSON that a client could read
}

// asJSON is text as a part of JSON: as it is or, where it is none or nests too deep, as a string. "" is null.
func asJSON(text string) any {
	switch {
	case text == "":
		return nil
	case !tooDeep([]byte(text)) && json.Valid([]byte(text)):
		return json.RawMessage(text)
	}
	return text
}

func newPolicySet(a *app) *cobra.Command {
	dryRun := false
	cmd := &cobra.Command{
		Use:   "set KEY FILE|-|JSON",
		Short: "Put a live policy in force",
		Long: `set puts a live policy in force: the service config in a file, on standard input
(-), or given as it is, which begins with "{". What gRPC would refuse or misread is
refused here, and nothing is written. The difference from the present live policy
is shown; nothing is written if someone else changes it meanwhile.

The first live policy that says how to balance takes the place of all that the proto
file says of that: routes, zones, the subset, slow start and the rest. set says so.`,
		Example: `  etcdrpc policy set acme/user '{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":3}}]}'
  etcdrpc policy set acme/user canary.json --dry-run`,
		Args:              keyArgs(1),
		ValidArgsFunction: a.completeKeyThenFile,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			text, err := a.readConfig(args[1])
			if err != nil {
				return err
			}
			live, err := s.get(ctx, configPrefix+args[0])
			if err != nil {
				return err
			}
			e := edit{key: args[0], old: live, new: text, dryRun: dryRun, done: "The live policy of " + args[0] + " is in force."}
			e.service = visible(ctx, s, args[0])
			if err := e.apply(ctx, s); err != nil {
				return err
			}
			if e.service != nil && len(e.service.instances) == 0 { // a mistyped key looks like that
				sayf(cmd.ErrOrStderr(), "Note: no instance is registered under \"%s\" now.\n", s.full(args[0]))
			}
			return e.show(cmd.OutOrStdout(), a.output)
		}),
	}
	addDryRun(cmd, &dryRun)
	return cmd
}

func newPolicyRm(a *app) *cobra.Command {
	dryRun := false
	cmd := &cobra.Command{
		Use:               "rm KEY",
		Short:             "Remove the live policy, which puts the generated one back in force",
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			live, err := s.get(ctx, configPrefix+args[0])
			if err != nil {
				return err
			}
			if live == nil {
				return noPolicy(args[0])
			}
			e := edit{key: args[0], old: live, dryRun: dryRun, done: "The live policy of " + args[0] + " is removed: its clients go back to the generated one."}
			if err := e.apply(ctx, s); err != nil {
				return err
			}
			return e.show(cmd.OutOrStdout(), a.output)
		}),
	}
	addDryRun(cmd, &dryRun)
	return cmd
}

func addDryRun(cmd *cobra.Command, dryRun *bool) {
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "show what would change, and write nothing")
}

// readConfig takes what a user gave as a service config.
func (a *app) readConfig(arg string) (text string, err error) {
	var raw []byte
	switch {
	case strings.HasPrefix(strings.TrimSpace(arg), "{"):
		raw = []byte(arg)
	case arg == "-":
		raw, err = io.ReadAll(a.stdin)
	default:
		raw, err = os.ReadFile(arg)
	}
	if err != nil {
		return "", fmt.Errorf("read the service config: %w", err)
	}
	text = strings.TrimSpace(string(raw))
	if text == "" {
		return "", errors.New("the service config is empty: to remove the live policy use policy rm")
	}
	return text, nil
}

// checkConfig returns why no client would go by a live policy. Which policies a client links is not
// known here: all that generated code may name are accepted.
func checkConfig(text string) error {
	_, err := serviceconfig.ParseLive(text)
	return err
}

// edit is a change of a live policy.
type edit struct {
	key    string
	old    *entry // nil: none
	new    string // "" none
	dryRun bool
	done   string   // what to say when it is written
	notes  []string // for the user, after the difference

	service *service // whose policy it is; nil: not known

	revision int64 // at which it was written
}

// oldText is the config that is replaced.
func (e *edit) oldText() string {
	if e.old == nil {
		return ""
	}
	return string(e.old.value)
}

func (e *edit) changes() bool { return pretty([]byte(e.oldText())) != pretty([]byte(e.new)) }

// apply checks the new config, and writes it unless it says what the old one does.
func (e *edit) apply(ctx context.Context, s *store) error {
	if e.new != "" {
		if err := checkConfig(e.new); err != nil {
			return fmt.Errorf("policy of %q: %w", e.key, err)
		}
	}
	if e.dryRun || !e.changes() {
		return nil
	}
	revision, err := s.replace(ctx, configPrefix+e.key, e.old, e.new)
	e.revision = revision
	return err
}

// outcome is how it went, in a few words.
func (e *edit) outcome() string {
	switch {
	case !e.changes():
		return "The live policy of " + e.key + " is this already; nothing was written."
	case e.dryRun:
		return "Dry run: nothing was written."
	}
	return e.done
}

func (e *edit) show(out io.Writer, f format) error {
	if f == formatJSON {
		return writeJSON(out, editJSON{
			Key: e.key, Changed: e.changes(), DryRun: e.dryRun, Revision: e.revision,
			Old: asJSON(e.oldText()), New: asJSON(e.new), Notes: slices.Concat(e.warnings(), e.notes),
		})
	}
	for _, warning := range e.warnings() {
		sayf(out, "%s\n", warning)
	}
	for _, line := range lines(diff(pretty([]byte(e.oldText())), pretty([]byte(e.new)))) {
		sayf(out, "%s\n", line)
	}
	sayf(out, "%s\n", e.outcome())
	for _, note := range e.notes {
		sayf(out, "%s\n", note)
	}
	return nil
}

type editJSON struct {
	Key      string   `json:"key"`
	Changed  bool     `json:"changed"`
	DryRun   bool     `json:"dryRun"`
	Revision int64    `json:"revision"` // of etcd, at which it was written; 0: it was not
	Old      any      `json:"old"`      // null: none
	New      any      `json:"new"`      // null: none
	Notes    []string `json:"notes,omitempty"`
}

// visible returns what is registered under a key, nil where that is not to be seen by who may write policies only.
func visible(ctx context.Context, s *store, key string) *service {
	entries, _, _, err := s.entriesOf(ctx, key)
	if err != nil {
		return nil
	}
	found, _ := surveyKey(key, entries)
	return found
}
