package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/xdspage"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

// xdsOptions are the flags of xds.
type xdsOptions struct {
	schemas, services []string
	listen, http      string
	files             transport.Files
	snapshotDir       string
}

func newXDS(a *app) *cobra.Command {
	opts := xdsOptions{files: transport.Files{Prefix: "server-"}}
	cmd := &cobra.Command{
		Use:   "xds",
		Short: "Tell gRPC clients of any language where the services are",
		Long: `xds tells gRPC's xDS clients, in any language, where the services of etcd are and how
to call them: they dial xds:///AUTHORITY. Endpoints, drains and live service configs
reach them as they change; while etcd, or xds itself, is away they keep what they know.

--schema is an image of the proto files, as "buf build -o" writes it: timeouts, retries
and policies are theirs, and AUTHORITY is that of the option, by default the key with "."
for "/". Without one, --service names the keys.

Beyond this host xds needs TLS with client certificates. At --http are a list of services
and clients with what each acknowledged (ACK) or refused (NACK), /metrics and /healthz.`,
		Example: `  etcdrpc xds --schema services.binpb
  etcdrpc xds --service acme/user=acme.user --service acme/cart
  etcdrpc xds bootstrap --server 127.0.0.1:18000 --zone eu-1a > xds.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return opts.run(a, cmd) },
	}

	flags := cmd.Flags()
	flags.StringArrayVar(&opts.schemas, "schema", nil,
		"the `file` with an image of proto files; may be repeated")
	flags.StringArrayVar(&opts.services, "service", nil,
		"a service without a proto file, `KEY=AUTHORITY` or KEY; may be repeated")
	flags.StringVar(&opts.listen, "listen", "127.0.0.1:18000",
		"serve xDS at this `address`")
	flags.StringVar(&opts.http, "http", "127.0.0.1:18001",
		"serve the list, metrics and health at this `address`, to everyone who can connect to it")
	flags.StringVar(&opts.files.Cert, "server-cert", "",
		"identify to clients by the TLS certificate in this `file`")
	flags.StringVar(&opts.files.Key, "server-key", "",
		"the TLS key `file` of --server-cert")
	flags.StringVar(&opts.files.ClientCA, "client-cacert", "",
		"accept clients with certificates of the CA bundle in this `file` alone")
	flags.StringVar(&opts.snapshotDir, "snapshot-dir", "",
		"keep the last known endpoints in this `directory`, to start from while etcd is away")
	cmd.MarkFlagsRequiredTogether("server-cert", "server-key", "client-cacert")
	cmd.AddCommand(newXDSBootstrap())

	return cmd
}

func (o *xdsOptions) run(a *app, cmd *cobra.Command) error {
	if err := a.begin(cmd); err != nil {
		return err
	}

	services, err := o.read()
	if err != nil {
		return err
	}

	serve := func(
		registry *runtime.Registry,
		notes io.Writer,
		logger *slog.Logger,
	) error {
		server, err := xds.NewServer(registry, services, xds.WithLogger(logger))
		if err != nil {
			return err
		}

		creds := insecure.NewCredentials()

		if o.files.ClientCA != "" {
			cfg, err := o.files.Server(logger)
			if err != nil {
				return err
			}

			creds = credentials.NewTLS(cfg)
		}

		return o.serve(cmd.Context(), server, creds, notes)
	}

	return a.withRegistry(cmd, serve, runtime.WithSnapshotDir(o.snapshotDir))
}

func (o *xdsOptions) read() (all []*runtime.ServiceDesc, err error) {
	if len(o.schemas) == 0 && len(o.services) == 0 {
		return nil, usage.Mistakef(
			"--schema or --service is missing: name the services to serve")
	}

	for _, name := range o.schemas {
		image, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--schema: %w", err)
		}

		found, err := xds.ReadImage(image)
		if err != nil {
			return nil, fmt.Errorf("--schema: %s: %w", name, err)
		}

		all = append(all, found...)
	}

	for _, text := range o.services {
		key, authority, _ := strings.Cut(text, "=")
		desc, err := xds.ServiceAt(key, authority)
		if err != nil {
			return nil, usage.Mistakef("--service %s: %w", text, err)
		}

		all = append(all, desc)
	}

	return all, nil
}

func (o *xdsOptions) serve(
	ctx context.Context,
	server *xds.Server,
	creds credentials.TransportCredentials,
	notes io.Writer,
) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	defer listener.Close()

	if o.files.ClientCA == "" && !isLocal(listener.Addr().String()) {
		return usage.Mistakef("--listen: beyond this host, xDS needs TLS with client certificates: give --server-cert, --server-key and --client-cacert")
	}

	page, err := config.Listen(ctx, "tcp", o.http)
	if err != nil {
		return fmt.Errorf("--http: %w", err)
	}
	defer page.Close()

	// Accept the keepalives of gRPC's clients, and detect dead clients.
	g := grpc.NewServer(grpc.Creds(creds),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             10 * time.Second,
			PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time:    30 * time.Second,
			Timeout: 10 * time.Second,
		}))

	server.Register(g)
	output.Sayf(notes, "Serving xDS at %s, and its status at %s\n",
		listener.Addr(), urlOf(page))

	serving, ctx := errgroup.WithContext(ctx)
	serving.Go(func() error {
		err := g.Serve(listener)
		if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serve at %s: %w", listener.Addr(), err)
		}

		return nil
	})

	serving.Go(func() error {
		defer g.Stop() // clients keep their resources

		pages := xdspage.Handler(server.Status)

		return servePages(ctx, page, pages, notes, func(context.Context) {})
	})

	return serving.Wait()
}

func newXDSBootstrap() *cobra.Command {
	var opts xds.BootstrapOptions
	cmd := &cobra.Command{
		Use:   "bootstrap",
		Short: "Print what gRPC's clients find xds by",
		Long: `bootstrap prints the configuration by which gRPC's clients find xds. They read it from
the file that GRPC_XDS_BOOTSTRAP names, or from GRPC_XDS_BOOTSTRAP_CONFIG itself.

With several --server, clients that know how to fall back use the next when one is dead;
others use the first.`,
		Example: `  etcdrpc xds bootstrap --server 127.0.0.1:18000 --zone eu-1a > xds.json
  GRPC_XDS_BOOTSTRAP=xds.json node client.js`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opts.ID == "" {
				host, err := os.Hostname()
				if err != nil {
					return usage.Mistakef(
						"--id is missing, and the host has no name: %w", err)
				}

				opts.ID = fmt.Sprintf("%s/%d", host, os.Getppid())
			}

			text, err := xds.Bootstrap(opts)
			if err != nil {
				return usage.Mistake(err)
			}

			return output.Writef(cmd.OutOrStdout(), "%s\n", text)
		},
	}

	flags := cmd.Flags()
	flags.StringSliceVar(&opts.Servers, "server", []string{"127.0.0.1:18000"},
		"the `addresses` of xds, host:port, separated by commas")
	flags.StringVar(&opts.ID, "id", "",
		"the `id` of the client, one for each process (default: the host's name and the process that asks)")
	flags.StringVar(&opts.Zone, "zone", "", "the `zone` that the client runs in")
	flags.StringVar(&opts.CA, "server-cacert", "",
		"have the client verify xds with the CA bundle in this `file`; without it, it connects without TLS")
	flags.StringVar(&opts.Cert, "client-cert", "",
		"have the client identify by the TLS certificate in this `file`")
	flags.StringVar(&opts.Key, "client-key", "", "the TLS key `file` of --client-cert")

	return cmd
}
