package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Exit codes.
const (
	exitFine   = 0
	exitWrong  = 1 // an error, or doctor found faults
	exitUsage  = 2 // the command line is invalid
	exitUnable = 3 // etcd is unavailable or denies access, or the output cannot be written
)

// exitCode is an error that sets the exit code and is not printed: the command has printed the reason.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// errFound is returned by a command that has printed faults or failures.
const errFound = exitCode(exitWrong)

// app is the state shared by the commands.
type app struct {
	settings settings
	output   output.Format
	stdin    io.Reader
	getenv   func(name string) string
	dial     transport.DialFunc // connects to instances
	written  bool               // a live config was written
	running  bool               // the command line was valid
}

// action runs a command that is connected to etcd.
type action func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error

// connected returns the RunE of a cobra command that connects to etcd and runs do.
func (a *app) connected(do action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := a.open(cmd, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		defer s.Close()
		return do(cmd.Context(), cmd, s, args)
	}
}

// open connects to etcd.
func (a *app) open(cmd *cobra.Command, warnings io.Writer) (*store.Store, error) {
	if err := a.begin(cmd); err != nil {
		return nil, err
	}
	return a.settings.open(cmd.Context(), warnings)
}

// begin reads the environment. It refuses a key that begins with the slash of the namespace. Once it has returned, only a
// [usage.Error] counts as misuse.
func (a *app) begin(cmd *cobra.Command) error {
	if err := fromEnvironment(cmd.Flags(), a.getenv); err != nil {
		return err
	}
	if prefix, key := a.settings.namespace, cmd.Flags().Arg(0); prefix != "" && !strings.HasSuffix(prefix, "/") && strings.HasPrefix(key, "/") {
		return fmt.Errorf("the slash belongs at the end of the namespace, not at the start of the key: give %s", output.Within(prefix+"/", key[1:]))
	}
	a.running = true
	return nil
}

// keyArgs accepts a service key followed by a number of extra arguments.
func keyArgs(extra int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(1+extra)(cmd, args); err != nil {
			return err
		}
		return endpoint.CheckKey(args[0])
	}
}

const noFiles = cobra.ShellCompDirectiveNoFileComp

// completion completes a service key from etcd, and then a name that list returns for the service. A nil list completes only the key.
func (a *app) completion(list func(*inventory.Service) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 1 || len(args) == 1 && list == nil {
			return nil, noFiles
		}
		a.settings.noPrompt = true // a shell waits for the output
		var found []string
		s, err := a.open(cmd, io.Discard)
		if err == nil {
			defer s.Close()
			found, err = candidates(cmd.Context(), s, args, typed, list)
		}
		if err != nil {
			cobra.CompDebugln(printable.Short(err.Error(), output.MaxText), false)
		}
		return slices.Compact(output.Offered(found)), noFiles
	}
}

func candidates(ctx context.Context, s *store.Store, args []string, typed string, list func(*inventory.Service) []string) (found []string, err error) {
	if len(args) == 1 {
		n, err := s.At(ctx, args[0])
		if err != nil {
			return nil, err
		}
		return list(n.Services[0]), nil
	}
	n, err := s.Under(ctx, typed)
	if err != nil {
		return nil, err
	}
	for _, service := range n.Services {
		found = append(found, service.Key)
	}
	return found, nil
}

// completeFields makes flags of cmd complete the values of the instances' fields with these names. The first argument is the service key.
func (a *app) completeFields(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		values := a.completion(func(s *inventory.Service) []string {
			return slices.Sorted(maps.Keys(inventory.Count(inventory.Entries([]*inventory.Service{s}), name)))
		})
		_ = cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, noFiles
			}
			return values(cmd, args[:1], typed)
		})
	}
}

// completeKeys completes a service key.
func (a *app) completeKeys(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.completion(nil)(cmd, args, typed)
}

func drainedOf(s *inventory.Service) []string {
	if policy := s.Policy(); policy != nil {
		return policy.Drain
	}
	return nil
}
