package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/ownname"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/supervise"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// advertiseEnv names the variable with the address that servers announce.
const advertiseEnv = "GRPC_ADVERTISE_ADDR"

// layouts are those that an entry can be written in. A json_layout is in the proto alone.
var layouts = endpoint.Layouts()

type runOptions struct {
	key, address, keyFile string

	instance, version, zone string
	weight                  uint32
	metadata, layouts       []string
	leaseTTL                time.Duration

	probe     supervise.Probe
	tls       bool
	supervise supervise.Settings
}

// exitCode passes on the exit code of the command that ran.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func newRun(a *app) *cobra.Command {
	var opts runOptions
	cmd := &cobra.Command{
		Use:   "run --key KEY --address ADDRESS [flags] -- CMD [ARG...]",
		Short: "Run any server, and keep it in etcd while it serves",
		Long: `run starts CMD, and keeps it in etcd under KEY while it serves: a server in any
language, which needs to know nothing of etcd. CMD runs even while etcd is away.

It serves while its grpc.health.v1.Health says so for --health, at the port of --address
on 127.0.0.1. Without --health, one that does not tell serves while it answers gRPC.
With --tcp it serves while it accepts connections. While it is not healthy, its entry is
out of etcd.

At SIGTERM or SIGINT the entry leaves etcd, callers get --drain-delay to hear of it, and
CMD gets the signal. What is left of its process group after --stop-timeout is killed. A
second signal ends the wait that is under way. SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are
passed on. run exits with CMD's code, with 128 and the number of the signal that killed
CMD, with 127 if it is not found, and with 126 if it cannot be executed.

--key is the service's: the TLS key of --cert is --cert-key, or ETCDCTL_KEY.`,
		Example: `  etcdrpc run --key acme/user --address :9000 -- python server.py
  etcdrpc run --key acme/user --address 10.0.0.7:9000 --health acme.user.v1.Users --version v2 -- ./server --port 9000`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return opts.run(a, cmd, args) },
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows CMD is CMD's
	opts.addTo(flags)
	complete(cmd.RegisterFlagCompletionFunc("layout", cobra.FixedCompletions(layoutNames(), cobra.ShellCompDirectiveNoFileComp)))
	complete(cmd.RegisterFlagCompletionFunc("key", cobra.NoFileCompletions))
	return cmd
}

func (o *runOptions) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&o.key, "key", "", "the `key` of the service in etcd; required")
	flags.StringVar(&o.keyFile, "cert-key", "", "the TLS key `file` of --cert")
	flags.StringVar(&o.address, "address", "", "the `address` that callers are told, host:port; :port has the host found as servers do (default: "+advertiseEnv+")")
	flags.StringVar(&o.instance, "instance", "", "the instance's `id` (default: its address)")
	flags.StringVar(&o.version, "version", "", "the instance's `version`")
	flags.StringVar(&o.zone, "zone", "", "the `zone` that it runs in")
	flags.Uint32Var(&o.weight, "weight", 0, "its share of calls beside others' under the weighted policy; 0 counts as 1")
	flags.StringArrayVar(&o.metadata, "metadata", nil, "a piece of metadata, `name=value`; may be repeated")
	flags.StringArrayVar(&o.layouts, "layout", nil, "the `layout` of the entry: "+strings.Join(layoutNames(), ", ")+"; may be repeated (default: endpoint_json)")
	flags.DurationVar(&o.leaseTTL, "lease-ttl", 15*time.Second, "how long the entry outlives etcdrpc")
	flags.StringVar(&o.probe.Service, "health", "", "the `service` whose grpc.health.v1.Health counts; \"\": the server's as a whole")
	flags.BoolVar(&o.probe.TCP, "tcp", false, "ask for no health: CMD serves while the port accepts connections")
	flags.StringVar(&o.probe.Addr, "probe", "", "ask CMD at this `address` (default: the port of --address on 127.0.0.1)")
	flags.BoolVar(&o.tls, "tls", false, "ask CMD over TLS; so do the next four flags")
	o.probe.Transport.AddTo(flags, "CMD")
	flags.BoolVar(&o.probe.Transport.Plaintext, "plaintext", false, "ask CMD without TLS beyond this host, too")
	flags.DurationVar(&o.supervise.StartTimeout, "start-timeout", 0, "end CMD if it does not serve within this `time`; 0: never")
	flags.DurationVar(&o.supervise.DrainDelay, "drain-delay", time.Second, "how long CMD runs on after it has left etcd")
	flags.DurationVar(&o.supervise.StopTimeout, "stop-timeout", 20*time.Second, "how long CMD may take to end after the signal")
}

func layoutNames() []string {
	names := make([]string, len(layouts))
	for i, l := range layouts {
		names[i] = l.String()
	}
	return names
}

// run runs a command until it ends, and returns its exit code as an error.
func (o *runOptions) run(a *app, cmd *cobra.Command, args []string) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, slices.DeleteFunc(supervise.Signals(), signal.Ignored)...) // nohup has SIGHUP ignored, by CMD as well
	defer signal.Stop(signals)
	if cmd.Context().Err() != nil {
		return exitCode(128 + int(supervise.Terminate)) // the signal came before CMD
	}
	ctx := context.WithoutCancel(cmd.Context())
	cfg, err := o.connection(ctx, a, cmd.Root().PersistentFlags(), cmd.Flags())
	if err != nil {
		return usage.Mistake(err) // whatever it is, nothing was started
	}
	notes, end := startNotes(cmd.ErrOrStderr())
	defer end()
	c := supervise.Command{
		Args: args, Signals: signals, Entry: o.entry(a, cfg, notes),
		Say: func(line string) { output.Sayf(notes, "etcdrpc: %s\n", line) },
	}
	if err := o.check(ctx, cmd.Flags(), &c, cfg); err != nil {
		return usage.Mistake(err)
	}
	c.Settings, c.Probe = o.supervise, o.probe
	c.Key, c.Name = a.settings.namespace+o.key, filepath.Base(args[0])
	code, err := c.Run(ctx)
	if err != nil {
		output.Sayf(notes, "etcdrpc: %s\n", err)
	}
	return exitCode(code)
}

// connection returns how to reach etcd. Here --key is the service's key, so --cert-key and ETCDCTL_KEY set the TLS key instead.
func (o *runOptions) connection(ctx context.Context, a *app, shared, own *pflag.FlagSet) (clientv3.Config, error) {
	if own.Changed("cert-key") {
		if err := shared.Set("key", o.keyFile); err != nil {
			return clientv3.Config{}, err
		}
	}
	if err := fromEnvironment(shared, os.LookupEnv); err != nil {
		return clientv3.Config{}, err
	}
	a.running, a.settings.noPrompt = true, true // a server is started by nobody who could answer
	if (a.settings.certFile == "") != (a.settings.keyFile == "") {
		return clientv3.Config{}, usage.Mistake(errors.New("--cert and --cert-key go together"))
	}
	return a.settings.config(ctx)
}

// entry returns what etcd is to hold, but for the address.
func (o *runOptions) entry(a *app, cfg clientv3.Config, notes io.Writer) supervise.Entry {
	return supervise.Entry{
		Key: o.key,
		Connect: func(ctx context.Context) (*clientv3.Client, error) {
			cfg := cfg
			cfg.Context = ctx
			return store.Connect(cfg)
		},
		Registry: []runtime.Option{runtime.WithNamespace(a.settings.namespace), runtime.WithLeaseTTL(o.leaseTTL), runtime.WithLogger(newLogger(notes))},
	}
}

// check says what is wrong with the flags, and completes what they say.
func (o *runOptions) check(ctx context.Context, flags *pflag.FlagSet, c *supervise.Command, cfg clientv3.Config) error {
	switch s := o.supervise; {
	case o.key == "":
		return errors.New("--key is missing: the key of the service")
	case o.probe.TCP && (flags.Changed("health") || o.secure() || o.probe.Transport.Plaintext):
		return errors.New("--tcp excludes --health and all flags of TLS")
	case s.DrainDelay < 0 || s.StopTimeout < 0 || s.StartTimeout < 0:
		return errors.New("--drain-delay, --stop-timeout and --start-timeout must not be below zero")
	}
	o.supervise.Strict = flags.Changed("health")
	if err := endpoint.CheckKey(o.key); err != nil {
		return fmt.Errorf("--key: %w", err)
	}
	if err := o.checkAddress(&c.Entry); err != nil {
		return err
	}
	if err := o.checkProbe(); err != nil {
		return err
	}
	var err error
	if c.Entry.Options, err = o.registerOptions(flags); err != nil {
		return err
	}
	cfg.Username, cfg.Password = "", "" // with a password, etcd would be asked for a token
	client, err := clientv3.New(cfg)
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	defer client.Close()
	return c.Entry.Check(ctx, client)
}

// checkAddress takes the address apart, and sets where to ask the command unless that is given.
func (o *runOptions) checkAddress(e *supervise.Entry) error {
	source, address := "--address", o.address
	if address == "" {
		source, address = advertiseEnv, os.Getenv(advertiseEnv)
	}
	if address == "" {
		return errors.New("--address is missing: the port that CMD serves at, as :9000, or host:port")
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		err = endpoint.CheckAddr(net.JoinHostPort(cmp.Or(host, "127.0.0.1"), port), true)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	_, announced, err := net.SplitHostPort(os.Getenv(advertiseEnv))
	switch {
	case host != "":
		e.Advertise = address
	case err == nil && announced != port: // the runtime would take it for both
		return fmt.Errorf("--address has port %s, and %s has %s: give what callers are told by --address host:port, and by --probe where CMD serves if that is elsewhere", port, advertiseEnv, announced)
	}
	e.Listen = net.JoinHostPort("", port)
	o.probe.Addr = cmp.Or(o.probe.Addr, net.JoinHostPort("127.0.0.1", port))
	return nil
}

// secure reports whether a flag says that the command is asked over TLS.
func (o *runOptions) secure() bool {
	t := o.probe.Transport
	return o.tls || t.Authority != "" || t.Files.CA != "" || t.Files.Cert != "" || t.Files.Key != ""
}

// checkProbe decides how the command is asked. Without a word about it, plaintext stays on this host.
func (o *runOptions) checkProbe() error {
	if err := endpoint.CheckAddr(o.probe.Addr, true); err != nil {
		return fmt.Errorf("--probe: %w", err)
	}
	t := &o.probe.Transport
	switch {
	case o.probe.TCP:
		return nil
	case o.tls && t.Plaintext:
		return errors.New("--plaintext excludes --tls")
	case !o.secure() && !t.Plaintext && !ownname.Is(o.probe.Addr, nil, true):
		return fmt.Errorf("--probe: %s may be beyond this host: give --tls, --plaintext, or --tcp", o.probe.Addr)
	case !o.secure():
		t.Plaintext = true
	}
	var err error
	o.probe.TLS, err = t.Check(o.key)
	return err
}

func (o *runOptions) registerOptions(flags *pflag.FlagSet) ([]runtime.RegisterOption, error) {
	var opts []runtime.RegisterOption
	if flags.Changed("instance") {
		if err := endpoint.CheckInstance(o.instance); err != nil {
			return nil, fmt.Errorf("--instance: %w", err)
		}
		opts = append(opts, runtime.WithInstance(o.instance))
	}
	opts = append(opts, runtime.WithVersion(o.version), runtime.WithZoneTag(o.zone), runtime.WithWeight(o.weight))
	for _, pair := range o.metadata {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--metadata: %q is not name=value", pair)
		}
		opts = append(opts, runtime.WithMetadata(name, value))
	}
	var chosen []runtime.Layout
	for _, name := range o.layouts {
		at := slices.Index(layoutNames(), name)
		if at < 0 {
			return nil, fmt.Errorf("--layout: no layout is named %q: want %s", name, strings.Join(layoutNames(), ", "))
		}
		chosen = append(chosen, endpoint.Public(layouts[at]).(runtime.Layout))
	}
	if chosen != nil {
		opts = append(opts, runtime.WithLayouts(chosen...))
	}
	return opts, nil
}
