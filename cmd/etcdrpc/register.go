package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// advertiseEnv names the variable with the address that servers announce. In
// this command, the address needs a port; servers also accept an IP address or
// a network.
const advertiseEnv = "GRPC_ADVERTISE_ADDR"

// registerOptions are the flags of register.
type registerOptions struct {
	address, probe, health string
	tcp, tls               bool
	strict                 bool // --health is given
	transport              transport.Transport

	instance, version, zone string
	weight                  uint32
	metadata, layouts       []string
	leaseTTL, drainDelay    time.Duration
}

func newRegister(a *app) *cobra.Command {
	var o registerOptions
	cmd := a.ofService(&cobra.Command{
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
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(a, cmd, args[0])
		},
	})

	o.addTo(cmd.Flags())
	offer(cmd, "layout", layoutNames())

	return cmd
}

func (o *registerOptions) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&o.address, "address", "",
		"the `address` that callers are told, host:port (default: "+
			advertiseEnv+", which must then have a port)")
	flags.StringVar(&o.probe, "probe", "",
		"ask the server at this `address` (default: --address)")
	flags.StringVar(&o.health, "health", "",
		"the `service` whose grpc.health.v1.Health counts; \"\": the server's as a whole")
	flags.BoolVar(&o.tcp, "tcp", false,
		"ask for no health: the server serves while its port accepts connections")
	flags.BoolVar(&o.tls, "tls", false,
		"ask the server over TLS; so do the next four flags")
	o.transport.AddTo(flags)
	flags.StringVar(&o.instance, "instance", "",
		"the instance's `id` (default: its address)")
	flags.StringVar(&o.version, "version", "", "the instance's `version`")
	flags.StringVar(&o.zone, "zone", "", "the `zone` that it runs in")
	flags.Uint32Var(&o.weight, "weight", 0,
		"its share of calls beside others' under the weighted policy; 0 counts as 1")
	flags.StringArrayVar(&o.metadata, "metadata", nil,
		"a piece of metadata, `name=value`; may be repeated")
	flags.StringArrayVar(&o.layouts, "layout", nil, "the `layout` of the entry: "+
		strings.Join(layoutNames(), ", ")+"; may be repeated (default: endpoint_json)")
	flags.DurationVar(&o.leaseTTL, "lease-ttl", 15*time.Second,
		"how long the entry outlives etcdrpc if that is killed")
	flags.DurationVar(&o.drainDelay, "drain-delay", time.Second,
		"how long to wait after the entry has left etcd")
}

// layoutNames returns the layouts for --layout. Only a proto file can set a
// json_layout.
func layoutNames() (names []string) {
	for _, l := range endpoint.Layouts() {
		names = append(names, l.String())
	}

	return names
}

func (o *registerOptions) run(a *app, cmd *cobra.Command, key string) error {
	if err := a.begin(cmd); err != nil {
		return err
	}

	a.settings.noPrompt = true // a service manager cannot answer a prompt
	ctx := cmd.Context()
	o.strict = cmd.Flags().Changed("health")

	if err := o.check(); err != nil {
		return usage.Mistake(err)
	}

	details, err := o.details()
	if err != nil {
		return usage.Mistake(err)
	}

	probe, err := o.prober(ctx, a.dial, key)
	if err != nil {
		return usage.Mistake(err)
	}

	serve := func(
		registry *runtime.Registry,
		notes io.Writer,
		logger *slog.Logger,
	) error {
		server, health := o.server(registry, key, details)

		changed := func(problem error) {
			status := healthpb.HealthCheckResponse_SERVING
			text := "serves"

			if problem != nil {
				status = healthpb.HealthCheckResponse_NOT_SERVING
				text = fmt.Sprintf("does not serve, so it is not in etcd: %v", problem)
			}

			output.Sayf(notes, "etcdrpc: %s of %q %s\n",
				o.address, a.settings.namespace+key, text)
			health.SetServingStatus("", status)
		}

		go follow(ctx, probe, changed)

		// The listener has no connections: callers connect to o.address.
		err := server.Serve(ctx, bufconn.Listen(0))

		switch {
		case err != nil && ctx.Err() == nil:
			// A flag is wrong: failures of etcd do not end Serve.
			return usage.Mistakef("register %s: %w", o.address, err)
		case err != nil:
			logger.Error("registration not ended cleanly", "error", err)
		}

		return nil
	}

	return a.withRegistry(cmd, serve, runtime.WithLeaseTTL(o.leaseTTL))
}

// check checks the flags, and completes the addresses.
func (o *registerOptions) check() error {
	source := "--address"
	if o.address == "" {
		source = advertiseEnv
		o.address = os.Getenv(advertiseEnv)
	}

	if o.address == "" {
		return errors.New("--address is missing: give the host:port for callers")
	}

	if err := endpoint.CheckAddr(o.address, true); err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}

	o.probe = cmp.Or(o.probe, o.address)

	o.transport.Plaintext = !o.tls && !o.transport.Secure()
	switch err := endpoint.CheckAddr(o.probe, true); {
	case err != nil:
		return fmt.Errorf("--probe: %w", err)
	case o.drainDelay < 0:
		return errors.New("--drain-delay must not be below zero")
	case o.tcp && (o.strict || !o.transport.Plaintext):
		return errors.New("--tcp excludes --health and all flags of TLS")
	}

	return nil
}

// details returns the fields of the entry except the address.
func (o *registerOptions) details() ([]runtime.RegisterOption, error) {
	opts := []runtime.RegisterOption{
		runtime.WithVersion(o.version),
		runtime.WithZoneTag(o.zone),
		runtime.WithWeight(o.weight),
	}

	if o.instance != "" {
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

// server returns a server without connections. Its entry is in etcd while the
// returned health is SERVING.
func (o *registerOptions) server(
	registry *runtime.Registry,
	key string,
	details []runtime.RegisterOption,
) (*runtime.Server, *grpchealth.Server) {
	health := grpchealth.NewServer()
	health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)

	server := registry.NewServer(grpc.NewServer(),
		runtime.WithAdvertiseAddress(o.address), runtime.WithDrainDelay(o.drainDelay))

	// The wrapper hides the method by which the runtime would set the status
	// named RegistrationHealth, because key may be the same name.
	healthpb.RegisterHealthServer(server, struct{ healthpb.HealthServer }{health})

	// No client uses this authority: callers have generated code with the
	// service's authority.
	server.Publish(&runtime.ServiceDesc{Name: key, Key: key, Authority: "localhost"},
		details...)

	return server, health
}

const (
	probeInterval = time.Second // between two probes
	probeTimeout  = 5 * time.Second
)

// prober returns the probe that the flags select. The probe returns an error if
// the server does not serve. Unless strict is set, a gRPC server without a
// health status counts as serving. The connection to the server ends with ctx.
func (o *registerOptions) prober(
	ctx context.Context,
	dial transport.DialFunc,
	key string,
) (func(context.Context) error, error) {
	if o.tcp {
		return func(ctx context.Context) error {
			conn, err := dial(ctx, "tcp", o.probe)
			if err != nil {
				return err
			}

			return conn.Close()
		}, nil
	}

	opts, err := o.transport.Options(key, dial)
	if err != nil {
		return nil, err
	}

	opts = append(opts, grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.Config{
			BaseDelay:  probeInterval / 2,
			Multiplier: 1,
			MaxDelay:   probeInterval / 2,
		},
		MinConnectTimeout: probeTimeout,
	}))

	conn, err := grpc.NewClient("passthrough:///"+o.probe, opts...)
	if err != nil {
		return nil, err
	}

	context.AfterFunc(ctx, func() { conn.Close() })

	return func(ctx context.Context) error {
		health, isGRPC, err := transport.CheckHealth(ctx, conn, o.health)
		return problemOf(health, status.Convert(err), o.strict || !isGRPC)
	}, nil
}

// noHealth are the codes of servers that have no health service, or whose
// health service denies access.
var noHealth = map[codes.Code]bool{
	codes.Unimplemented:    true,
	codes.Unauthenticated:  true,
	codes.PermissionDenied: true,
}

// problemOf returns why a server does not serve, given the answer of its health
// service.
func problemOf(
	health healthpb.HealthCheckResponse_ServingStatus,
	answer *status.Status,
	strict bool,
) error {
	code := answer.Code()

	switch {
	case code == codes.OK && health != healthpb.HealthCheckResponse_SERVING:
		return fmt.Errorf("its health is %v", health)
	case code == codes.OK:
		return nil
	case code == codes.ResourceExhausted: // a server at its limit of calls serves
		return nil
	case !strict && noHealth[code]:
		return nil
	}

	hint := transport.Hint(answer.Message(),
		"give --tls; if it does not speak gRPC, --tcp", "leave out --tls")

	return fmt.Errorf("%v: %s%s", code, answer.Message(), hint)
}

// follow probes until ctx ends. It calls changed with the first result, and
// with each result that differs from the previous one.
func follow(
	ctx context.Context,
	ask func(context.Context) error,
	changed func(problem error),
) {
	previous := errors.New("not asked yet")

	for ; ctx.Err() == nil; store.Pause(ctx, probeInterval) {
		probing, cancel := context.WithTimeout(ctx, probeTimeout)
		problem := ask(probing)
		cancel()

		if !etcderr.Same(problem, previous) && ctx.Err() == nil {
			previous = problem
			changed(problem)
		}
	}
}
