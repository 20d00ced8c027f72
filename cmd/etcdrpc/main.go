// Command etcdrpc shows and edits the data of gRPC services in etcd: the instances of each service,
// its live service config, and the faults of both. See docs/etcdrpc.md.
//
// The commands are here, with their flags and their help. Packages below internal implement them:
//
//	store       reads snapshots of etcd, follows it and writes live configs
//	inventory   decodes the entries of a snapshot into services and instances
//	policyedit  explains where calls go, and edits live policies
//	doctor      finds faults in a snapshot, and probes instances
//	targets     lists a snapshot as Prometheus targets
//	console     shows snapshots as web pages
//	liveconfig  edits the text of live configs
//	output      prints all output, except HTTP responses
//
// The commands register and xds use package runtime.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // so that a second signal kills the process
	a := &app{stdin: os.Stdin, getenv: os.Getenv, dial: new(net.Dialer).DialContext}
	return a.execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// execute runs a command line, and returns its exit code.
func (a *app) execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := output.Check(stdout, cancel) // the command stops when its output fails
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	code, isCode := errors.AsType[exitCode](err)
	switch writeErr := out.Err(); {
	case writeErr != nil:
		if a.written {
			writeErr = fmt.Errorf("the change is written: %w", writeErr)
		}
		output.Sayf(stderr, "etcdrpc: %s\n", writeErr)
		return exitUnable
	case err == nil:
		return exitFine
	case isCode:
		return int(code)
	case !a.running || errors.As(err, new(usage.Error)):
		if a.running {
			output.Sayf(stderr, "etcdrpc: %s\n", err)
		} else { // not escaped: the error has no text from etcd, and cobra may indent lines by tabs
			output.SayLines(stderr, "etcdrpc: "+strings.ReplaceAll(err.Error(), "\t", "  "))
		}
		output.Sayf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	output.Sayf(stderr, "etcdrpc: %s\n", err)
	if errors.Is(err, store.ErrDenied) || errors.As(err, new(store.UnansweredError)) {
		return exitUnable
	}
	return exitWrong
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "etcdrpc",
		Short: "Look after gRPC services in etcd",
		Long: `etcdrpc shows and edits what gRPC services keep in etcd: the instances of each
service, its live service config, and the faults of both.

The flags of the connection to etcd and their environment variables are etcdctl's:
--cacert is also ETCDCTL_CACERT, and so on.

Exit codes: 0 success; 1 an error, or doctor found faults; 2 invalid usage;
3 etcd is unavailable or denies access, or the output cannot be written.`,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.output.Check() },
		SilenceUsage:      true,
		SilenceErrors:     true,
	}
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "Global Flags:\n{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}",
		"'{{.Root.CommandPath}} --help' shows the flags of the connection and the output, which every command has.", 1))
	flags := root.PersistentFlags()
	flags.AddFlagSet(a.settings.flags())
	flags.StringVarP((*string)(&a.output), "output", "o", string(output.FormatTable), "`format` of the output: table or json")
	flags.StringVarP((*string)(&a.output), "write-out", "w", string(output.FormatTable), "the same as --output, as etcdctl spells it")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(output.Formats, noFiles))
	_ = root.RegisterFlagCompletionFunc("write-out", cobra.FixedCompletions(output.Formats, noFiles))
	root.AddCommand(newLs(a), newWatch(a), newPolicy(a), newDrain(a), newUndrain(a), newRegister(a), newCall(a), newDoctor(a), newSD(a), newUI(a), newXDS(a), newVersion(a))
	return root
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this command",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.running = true
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
			}{"(unknown)", runtime.Version()}
			if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
				v.Version = info.Main.Version
			}
			return output.Show(cmd.OutOrStdout(), a.output, v, func(out io.Writer) { output.Sayf(out, "etcdrpc %s (%s)\n", v.Version, v.Go) })
		},
	}
}
