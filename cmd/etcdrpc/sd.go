package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/targets"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

type sdOptions struct {
	listen string
	once   bool
	port   targets.Port
}

func newSD(a *app) *cobra.Command {
	var opts sdOptions

	cmd := &cobra.Command{
		Use:   "sd [PREFIX]",
		Short: "Serve the instances as Prometheus targets",
		Long: `sd serves the instances of the services whose keys begin with PREFIX in the format of
Prometheus' http_sd, at / and at /sd. It follows etcd and answers from memory. While etcd
is away it serves the last known instances.

The labels are __meta_etcdrpc_key, _instance, _address, _version, _zone, _weight, _layout,
_state ("registered" or "drained") and _metadata_<name>; those without a value are left out.
An instance without a port is left out. So is an entry without a lease that may be a
setting, such as one of Registry.Add, unless PREFIX is the key of the service.`,
		Example: `  etcdrpc sd --port-metadata metrics_port acme/
  etcdrpc sd --once --port 9100 acme/ > targets.json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completion(nil),
	}

	cmd.RunE = a.connected(func(
		ctx context.Context,
		s *store.Store,
		args []string,
	) error {
		prefix := strings.Join(args, "")

		if cmd.Flags().Changed("port") &&
			!servicekey.IsPort(strconv.Itoa(opts.port.Number)) {
			return usage.Mistakef("--port must be from 1 to 65535")
		}

		if !opts.once {
			return opts.serve(ctx, s, prefix, a.notes)
		}

		n, err := a.listServices(ctx, s, args)
		if err != nil {
			return err
		}

		return output.WriteJSON(a.out, targets.Of(n.Services, prefix, opts.port))
	})

	flags := cmd.Flags()
	flags.StringVar(&opts.listen, "listen", "127.0.0.1:9469",
		"serve at this `address`; everyone who can reach it can read the targets")
	flags.BoolVar(&opts.once, "once", false,
		"write the targets to standard output in the format of file_sd, and exit")
	flags.IntVar(&opts.port.Number, "port", 0,
		"the `port` of the metrics of every instance (default: the one of its address)")
	flags.StringVar(&opts.port.Metadata, "port-metadata", "",
		"the `name` of the metadata that holds the port of an instance's metrics")
	cmd.MarkFlagsMutuallyExclusive("port", "port-metadata")
	cmd.MarkFlagsMutuallyExclusive("once", "listen")

	return cmd
}

func (o *sdOptions) serve(
	ctx context.Context,
	s *store.Store,
	prefix string,
	stderr io.Writer,
) error {
	notes, end := startNotes(stderr)
	defer end()

	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}

	output.Sayf(notes, "Serving the targets under %q at %ssd\n",
		s.Full(prefix), urlOf(listener))

	f := &targets.Follower{Prefix: prefix, Port: o.port}
	pages := http.NewServeMux()
	pages.Handle("GET /{$}", f)
	pages.Handle("GET /sd", f)
	follow := func(ctx context.Context) { f.Run(ctx, s, notes) }

	return servePages(ctx, listener, pages, notes, follow)
}
