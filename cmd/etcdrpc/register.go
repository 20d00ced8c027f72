package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// advertiseEnv names the variable with the address that servers announce.
const advertiseEnv = "GRPC_ADVERTISE_ADDR"

// revokeTimeout bounds the wait for etcd to revoke the lease of an entry that is gone.
const revokeTimeout = time.Second

type registerOptions struct {
	address, probe, health string
	tcp, tls               bool
	transport              transport.Transport

	instance, version, zone string
	weight                  uint32
	metadata, layouts       []string
	leaseTTL, drainDelay    time.Duration
}

func newRegister(a *app) *cobra.Command {
	var o registerOptions
	cmd := &cobra.Command{
		Use:   "register KEY --address HOST:PORT",
		Short: "Keep a server that something else runs in etcd while it serves",
		Long: `register keeps a server in etcd under KEY while it serves: a server in any language, that
systemd, Kubernetes or a person runs, and that needs to know nothing of etcd.

Each second it asks the server's grpc.health.v1.Health for --health. Without --health it
asks for the server as a whole, and one without that service serves while it answers gRPC.
With --tcp it serves while the port accepts connections. While it does not serve, or does
not answer within 5 s, its entry is out of etcd.

At SIGTERM or SIGINT register takes the entry out of etcd, gives callers --drain-delay to
hear of that, and exits with 0. End the server after it. While etcd is away it goes on
trying.`,
		Example: `  etcdrpc register acme/user --address 10.0.0.7:9000
  etcdrpc register acme/user --address 10.0.0.7:9000 --health acme.user.v1.Users --version v2 --drain-delay 5s`,
		Args:              keyArgs(0),
		ValidArgsFunction: a.completeKeys,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(a, cmd, args[0]) },
	}
	o.addTo(cmd.Flags())
	complete(cmd.RegisterFlagCompletionFunc("layout", cobra.FixedCompletions(layoutNames(), noFiles)))
	return cmd
}

func (o *registerOptions) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&o.address, "address", "", "the `address` that callers are told, host:port (default: "+advertiseEnv+")")
	flags.StringVar(&o.probe, "probe", "", "ask the server at this `address` (default: --address)")
	flags.StringVar(&o.health, "health", "", "the `service` whose grpc.health.v1.Health counts; \"\": the server's as a whole")
	flags.BoolVar(&o.tcp, "tcp", false, "ask for no health: the server serves while its port accepts connections")
	flags.BoolVar(&o.tls, "tls", false, "ask the server over TLS; so do the next four flags")
	o.transport.AddTo(flags)
	flags.StringVar(&o.instance, "instance", "", "the instance's `id` (default: its address)")
	flags.StringVar(&o.version, "version", "", "the instance's `version`")
	flags.StringVar(&o.zone, "zone", "", "the `zone` that it runs in")
	flags.Uint32Var(&o.weight, "weight", 0, "its share of calls beside others' under the weighted policy; 0 counts as 1")
	flags.StringArrayVar(&o.metadata, "metadata", nil, "a piece of metadata, `name=value`; may be repeated")
	flags.StringArrayVar(&o.layouts, "layout", nil, "the `layout` of the entry: "+strings.Join(layoutNames(), ", ")+"; may be repeated (default: endpoint_json)")
	flags.DurationVar(&o.leaseTTL, "lease-ttl", 15*time.Second, "how long the entry outlives etcdrpc if that is killed")
	flags.DurationVar(&o.drainDelay, "drain-delay", time.Second, "how long to wait after the entry has left etcd")
}

// layoutNames are those that an entry can be written in. A json_layout is in the proto alone.
func layoutNames() (names []string) {
	for _, l := range endpoint.Layouts() {
		names = append(names, l.String())
	}
	return names
}

func (o *registerOptions) run(a *app, cmd *cobra.Command, key string) error {
	ctx := cmd.Context()
	if err := a.begin(cmd); err != nil {
		return err
	}
	a.settings.noPrompt = true // a service manager could not answer
	probe, err := o.prober(ctx, a, cmd.Flags(), key)
	if err != nil {
		return usage.Mistake(err)
	}
	details, err := o.details(cmd.Flags())
	if err != nil {
		return usage.Mistake(err)
	}
	cfg, err := a.settings.config(ctx)
	if err != nil {
		return err
	}
	notes, end := startNotes(cmd.ErrOrStderr())
	defer end()
	return o.keep(ctx, a, cfg, key, probe, details, notes)
}

// keep keeps the server in etcd while it serves, until ctx ends.
func (o *registerOptions) keep(ctx context.Context, a *app, cfg clientv3.Config, key string, probe prober, details []runtime.RegisterOption, notes io.Writer) error {
	client, err := connectPatiently(ctx, cfg, notes)
	if client == nil {
		return err
	}
	defer client.Close()
	registry := runtime.NewRegistry(client, runtime.WithNamespace(a.settings.namespace), runtime.WithLeaseTTL(o.leaseTTL), runtime.WithLogger(newLogger(notes)))
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), revokeTimeout)
		defer cancel()
		registry.Close(closing) // an error: the runtime logs it, and the lease ends by itself
	}()
	server, health := o.server(registry, key, details)
	go probe.follow(ctx, func(problem error) {
		status, text := healthpb.HealthCheckResponse_SERVING, "serves"
		if problem != nil {
			status, text = healthpb.HealthCheckResponse_NOT_SERVING, fmt.Sprintf("does not serve, so it is not in etcd: %v", problem)
		}
		output.Sayf(notes, "etcdrpc: %s of %q %s\n", o.address, a.settings.namespace+key, text)
		health.SetServingStatus("", status)
	})
	if err := server.Serve(ctx, nowhere{}); err != nil {
		return fmt.Errorf("register %s: %w", o.address, err)
	}
	return nil
}

// connectPatiently connects to etcd. With a password etcd is asked at once, so it tries until etcd is there, and returns nil if ctx
// ends before.
func connectPatiently(ctx context.Context, cfg clientv3.Config, notes io.Writer) (*clientv3.Client, error) {
	say := output.Once(notes)
	for ctx.Err() == nil {
		client, err := store.Connect(cfg)
		if err == nil || !errors.As(err, new(store.UnansweredError)) {
			return client, err
		}
		say(fmt.Sprintf("etcdrpc: %v; trying again", err))
		store.Pause(ctx, probeInterval)
	}
	return nil, nil
}

// prober returns what asks the server for its health. It also checks the addresses.
func (o *registerOptions) prober(ctx context.Context, a *app, flags *pflag.FlagSet, key string) (prober, error) {
	source := "--address"
	if o.address == "" {
		source, o.address = advertiseEnv, os.Getenv(advertiseEnv)
	}
	if o.address == "" {
		return nil, errors.New("--address is missing: the host:port that callers are to call")
	}
	if err := endpoint.CheckAddr(o.address, true); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	o.probe = cmp.Or(o.probe, o.address)
	if err := endpoint.CheckAddr(o.probe, true); err != nil {
		return nil, fmt.Errorf("--probe: %w", err)
	}
	strict, secure := flags.Changed("health"), o.tls || o.transport.Secure()
	switch {
	case o.drainDelay < 0:
		return nil, errors.New("--drain-delay must not be below zero")
	case o.tcp && (strict || secure):
		return nil, errors.New("--tcp excludes --health and all flags of TLS")
	case o.tcp:
		return acceptsAt(o.probe, a.dial), nil
	}
	o.transport.Plaintext = !secure
	opts, err := o.transport.Options(key, a.dial)
	if err != nil {
		return nil, err
	}
	return healthAt(ctx, o.probe, o.health, strict, opts)
}

func (o *registerOptions) details(flags *pflag.FlagSet) ([]runtime.RegisterOption, error) {
	opts := []runtime.RegisterOption{runtime.WithVersion(o.version), runtime.WithZoneTag(o.zone), runtime.WithWeight(o.weight)}
	if flags.Changed("instance") {
		opts = append(opts, runtime.WithInstance(o.instance))
	}
	for _, pair := range o.metadata {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--metadata: %q is not name=value", pair)
		}
		opts = append(opts, runtime.WithMetadata(name, value))
	}
	var layouts []runtime.Layout
	for _, name := range o.layouts {
		layout, err := endpoint.LayoutByName(name)
		if err != nil {
			return nil, fmt.Errorf("--layout: %w", err)
		}
		layouts = append(layouts, endpoint.Public(layout).(runtime.Layout))
	}
	if layouts != nil {
		opts = append(opts, runtime.WithLayouts(layouts...))
	}
	return opts, nil
}

// server returns what keeps the server in etcd while the health that it goes by is SERVING.
func (o *registerOptions) server(registry *runtime.Registry, key string, details []runtime.RegisterOption) (*runtime.Server, *grpchealth.Server) {
	health := grpchealth.NewServer()
	health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	server := registry.NewServer(elsewhere{grpc.NewServer(), make(chan struct{})}, runtime.WithAdvertiseAddress(o.address), runtime.WithDrainDelay(o.drainDelay))
	// The runtime sees no method to set a status by: the status it would set, RegistrationHealth, may be the key's.
	healthpb.RegisterHealthServer(server, struct{ healthpb.HealthServer }{health})
	// The authority is for callers, whose generated code has one of its own.
	server.Publish(&runtime.ServiceDesc{Name: key, Key: key, Authority: "localhost"}, details...)
	return server, health
}

// elsewhere is a gRPC server that another process serves.
type elsewhere struct {
	*grpc.Server
	stopped chan struct{}
}

// Serve waits for GracefulStop.
func (e elsewhere) Serve(net.Listener) error {
	<-e.stopped
	return nil
}

// GracefulStop ends Serve.
func (e elsewhere) GracefulStop() { close(e.stopped) }

// nowhere is the listener of that server, whose address is given.
type nowhere struct{ net.Listener }

func (nowhere) Addr() net.Addr { return new(net.TCPAddr) }
func (nowhere) Close() error   { return nil }
