package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// What the command ends with.
const (
	exitFine  = 0
	exitWrong = 1 // something failed, or doctor found something
	exitUsage = 2 // the command line makes no sense
)

// errFound ends a command that has said already what is wrong.
var errFound = errors.New("something is wrong")

// app is what the commands share.
type app struct {
	settings settings
	output   output.Format
	stdin    io.Reader
	dial     dialing.Func // to instances
	running  bool         // the command line was understood
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{output: output.FormatTable, stdin: stdin, dial: new(net.Dialer).DialContext}
	return a.execute(ctx, args, stdout, stderr)
}

func (a *app) execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var usage usage.Error
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errFound):
		return exitWrong
	case !a.running || errors.As(err, &usage):
		sayUsage(stderr, err, a.running)
		output.Sayf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	output.Sayf(stderr, "etcdrpc: %s\n", err)
	return exitWrong
}

// sayUsage says what is wrong with a command line. What is found before anything runs has nothing from etcd, and may
// have several lines.
func sayUsage(stderr io.Writer, err error, running bool) {
	if running {
		output.Sayf(stderr, "etcdrpc: %s\n", err)
		return
	}
	output.SayLines(stderr, "etcdrpc: "+err.Error())
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "etcdrpc",
		Short: "Look after gRPC services in etcd",
		Long: `etcdrpc shows and mends what gRPC services keep in etcd: the instances of each
service, its live service config, and what is wrong with either.

Flags and their environment variables are etcdctl's: --cacert is also
ETCDCTL_CACERT, and so on for all flags that say how to reach etcd.

Exit codes: 0 fine; 1 it failed, doctor found something, or adopt found a
service that no layout reads; 2 wrong usage.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	a.settings.addTo(flags)
	flags.VarP(&a.output, "output", "o", "`format` of the output: table or json")
	flags.VarP(&a.output, "write-out", "w", "the same as --output, as etcdctl spells it")
	complete(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(output.Formats, cobra.ShellCompDirectiveNoFileComp)))
	complete(root.RegisterFlagCompletionFunc("write-out", cobra.FixedCompletions(output.Formats, cobra.ShellCompDirectiveNoFileComp)))
	root.AddCommand(newLs(a), newWatch(a), newPolicy(a), newDrain(a), newUndrain(a), newDoctor(a), newAdopt(a), newCall(a), newSD(a), newUI(a), newVersion(a))
	return root
}

// complete takes the error of a completion's registration, which is one of the program.
func complete(err error) {
	if err != nil {
		panic(err)
	}
}

// action is what a command does, connected to etcd.
type action func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error

// connected makes an action a cobra command's RunE.
func (a *app) connected(do action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := fromEnvironment(cmd.Flags(), os.LookupEnv); err != nil {
			return err
		}
		a.running = true
		a.settings.warnings = cmd.ErrOrStderr()
		s, err := a.settings.open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.Close()
		return do(cmd.Context(), cmd, s, args)
	}
}

// environment is the prefix of the variables that stand for flags: etcdctl's.
const environment = "ETCDCTL_"

// fromEnvironment sets the flags that were not given from the variables named after them.
func fromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	for _, name := range connectionFlags {
		variable := environment + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		flag := flags.Lookup(name)
		value, ok := lookup(variable)
		if flag == nil || flag.Changed || !ok || value == "" {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", variable, err))
		}
	}
	return errors.Join(errs...)
}

// keyArgs accepts a service key, and n more arguments.
func keyArgs(more int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(1+more)(cmd, args); err != nil {
			return err
		}
		return endpoint.CheckKey(args[0])
	}
}
