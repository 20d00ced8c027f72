// Command etcdrpc shows and edits the data of gRPC services in etcd: the
// instances of each service, its live config, and what is wrong with both. See
// docs/etcdrpc.md.
//
// The commands are here, with their flags and their help. Packages below
// internal implement them:
//
//	store       reads snapshots of etcd, follows it and writes live configs
//	inventory   decodes the entries of a snapshot into services and instances
//	policyedit  explains where calls go, and edits live configs
//	doctor      finds what is wrong in a snapshot, and probes instances
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
	"maps"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Exit codes.
const (
	exitFine  = 0
	exitWrong = 1 // an error, or doctor has findings
	exitUsage = 2 // the command line is invalid

	// etcd is unavailable or denies access, or the output cannot be written
	exitUnable = 3
)

// errFound is returned by a command that has printed findings or failures. It
// is not printed.
var errFound = errors.New("something is wrong")

// app is the state shared by the commands.
type app struct {
	settings          settings
	output            output.Format
	stdin             io.Reader
	out, notes        io.Writer
	getenv            func(name string) string
	dial              transport.DialFunc // connects to instances
	written           bool               // a live config was written
	running           bool               // the command line was valid
	completionTimeout time.Duration      // bounds a completion, for which a shell waits
}

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	context.AfterFunc(ctx, stop) // so that a second signal kills the process

	a := &app{
		stdin:             os.Stdin,
		getenv:            os.Getenv,
		dial:              new(net.Dialer).DialContext,
		completionTimeout: time.Second,
	}

	return a.execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// execute runs a command line, and returns its exit code.
func (a *app) execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	out := output.Check(stdout, cancel) // the command stops when its output fails
	a.out = out
	a.notes = stderr

	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(out)
	root.SetErr(stderr)

	cmd, err := root.ExecuteContextC(ctx)
	writeErr := out.Err()

	switch {
	case writeErr != nil:
		if a.written {
			writeErr = fmt.Errorf("the change is written: %w", writeErr)
		}

		output.Sayf(stderr, "etcdrpc: %s\n", writeErr)

		return exitUnable

	case err == nil:
		return exitFine
	case errors.Is(err, errFound):
		return exitWrong

	case !a.running || errors.As(err, new(usage.Error)):
		if a.running {
			output.Sayf(stderr, "etcdrpc: %s\n", err)
		} else {
			// The error has several lines, which cobra may indent by tabs, and
			// no text from etcd.
			output.SayLines(stderr,
				"etcdrpc: "+strings.ReplaceAll(err.Error(), "\t", "  "))
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
service, its live config, and what is wrong with both.

The flags of the connection to etcd and their environment variables are named as
etcdctl's: --cacert is also ETCDCTL_CACERT, and so on.

Exit codes: 0 success; 1 an error, or doctor has findings; 2 invalid usage;
3 etcd is unavailable or denies access, or the output cannot be written.`,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.output.Check()
		},
		SilenceUsage:  true,
		SilenceErrors: true,
	}

	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(),
		"Global Flags:\n{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}",
		"'{{.Root.CommandPath}} --help' shows the flags of the connection and the output, which every command has.", 1))
	flags := root.PersistentFlags()
	flags.AddFlagSet(a.settings.flags())
	flags.StringVarP((*string)(&a.output), "output", "o", string(output.FormatTable),
		"`format` of the output: table or json")
	offer(root, "output", output.Formats)
	root.AddCommand(newLs(a), newWatch(a), newPolicy(a), newDrain(a), newUndrain(a),
		newRegister(a), newCall(a), newDoctor(a), newSD(a), newUI(a), newXDS(a),
		newVersion(a))

	return root
}

// action runs a command that is connected to etcd.
type action func(ctx context.Context, s *store.Store, args []string) error

// connected returns the RunE of a cobra command that connects to etcd and runs
// do.
func (a *app) connected(do action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := a.open(cmd, a.notes)
		if err != nil {
			return err
		}
		defer s.Close()

		return do(cmd.Context(), s, args)
	}
}

// open connects to etcd.
func (a *app) open(cmd *cobra.Command, warnings io.Writer) (*store.Store, error) {
	if err := a.begin(cmd); err != nil {
		return nil, err
	}

	return a.settings.open(cmd.Context(), warnings)
}

// begin reads the environment, and refuses a key that begins with the slash of
// the namespace. After begin has succeeded, only a [usage.Error] counts as
// misuse.
func (a *app) begin(cmd *cobra.Command) error {
	if err := fromEnvironment(cmd.Flags(), a.getenv); err != nil {
		return err
	}

	prefix := a.settings.namespace
	key := cmd.Flags().Arg(0)
	if prefix != "" && !strings.HasSuffix(prefix, "/") && strings.HasPrefix(key, "/") {
		return fmt.Errorf("the slash belongs at the end of the namespace, not at the start of the key: give %s",
			output.Within(prefix+"/", key[1:]))
	}

	a.running = true

	return nil
}

// keyArgs checks the number of arguments, and that the first, if any, is a
// valid service key.
func keyArgs(numbers cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := numbers(cmd, args); err != nil || len(args) == 0 {
			return err
		}

		return endpoint.CheckKey(args[0])
	}
}

// ofService makes cmd take the key of a service as its only argument.
func (a *app) ofService(cmd *cobra.Command) *cobra.Command {
	cmd.Args = keyArgs(cobra.ExactArgs(1))
	cmd.ValidArgsFunction = a.completion(nil)

	return cmd
}

const noFiles = cobra.ShellCompDirectiveNoFileComp

// offer completes the values of a flag.
func offer(cmd *cobra.Command, flag string, values []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, noFiles))
}

// completion completes a service key from etcd, and then a name that list
// returns for the service. A nil list completes only the key.
func (a *app) completion(list func(*inventory.Service) []string) cobra.CompletionFunc {
	return func(
		cmd *cobra.Command,
		args []string,
		typed string,
	) ([]string, cobra.ShellCompDirective) {
		if len(args) > 1 || len(args) == 1 && list == nil {
			return nil, noFiles
		}

		a.settings.noPrompt = true // a shell waits for the output
		ctx, cancel := context.WithTimeout(cmd.Context(), a.completionTimeout)
		defer cancel()

		cmd.SetContext(ctx)

		var found []string

		s, err := a.open(cmd, io.Discard)
		if err == nil {
			defer s.Close()

			found, err = candidates(ctx, s, args, typed, list)
		}

		if err != nil {
			cobra.CompDebugln(printable.Short(err.Error(), output.MaxText), false)
		}

		return slices.Compact(output.Offered(found)), noFiles
	}
}

// candidates returns the words that complete typed: service keys or, if args
// has a key, what list returns for its service.
func candidates(
	ctx context.Context,
	s *store.Store,
	args []string,
	typed string,
	list func(*inventory.Service) []string,
) (found []string, err error) {
	read := s.At
	start := typed

	if len(args) == 0 {
		read = s.Under
		list = func(service *inventory.Service) []string { return []string{service.Key} }
	} else {
		start = args[0]
	}

	n, err := read(ctx, start)
	if err != nil {
		return nil, err
	}

	for _, service := range n.Services {
		found = append(found, list(service)...)
	}

	return found, nil
}

// listServices reads the services under the prefix in args, if any, and prints
// what could not be read.
func (a *app) listServices(
	ctx context.Context,
	s *store.Store,
	args []string,
) (*store.Snapshot, error) {
	n, err := s.Under(ctx, strings.Join(args, ""))
	if errors.Is(err, store.ErrDenied) && s.User+s.CertFile != "" {
		err = fmt.Errorf("%w: give a KEY or PREFIX that this user may read", err)
	}

	if err == nil {
		output.Once(a.notes)(n.Note)
	}

	return n, err
}

// completeFields makes flags of cmd complete the values of the instances'
// fields with these names. The first argument is the service key.
func (a *app) completeFields(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		values := a.completion(func(s *inventory.Service) []string {
			entries := inventory.Entries([]*inventory.Service{s})
			return slices.Sorted(maps.Keys(inventory.Count(entries, name)))
		})

		complete := func(
			cmd *cobra.Command,
			args []string,
			typed string,
		) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, noFiles
			}

			return values(cmd, args[:1], typed)
		}

		_ = cmd.RegisterFlagCompletionFunc(name, complete)
	}
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of this command",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.running = true

			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
			}{"(unknown)", runtime.Version()}
			if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
				v.Version = info.Main.Version
			}

			return output.Show(a.out, a.output, v, func(out io.Writer) {
				output.Sayf(out, "etcdrpc %s (%s)\n", v.Version, v.Go)
			})
		},
	}
}
