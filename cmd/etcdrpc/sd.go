package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/ownname"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// relist spaces the lists that notice what no watch tells: an etcd that was restored from a backup.
const relist = time.Minute

// sdOptions say what Prometheus is told, and where.
type sdOptions struct {
	listen string
	once   bool
	port   metricsPort
}

func newSD(a *app) *cobra.Command {
	var opts sdOptions
	cmd := &cobra.Command{
		Use:   "sd [PREFIX]",
		Short: "Tell Prometheus where the instances are",
		Long: `sd serves the instances of the services whose keys begin with PREFIX as Prometheus'
http_sd reads them, at / and at /sd. It follows etcd, answers from memory, and while etcd
is away serves what it knew last. With --once it writes them to standard output, for file_sd,
and ends.

The labels are __meta_etcdrpc_key, _instance, _address, _version, _zone, _weight, _layout,
_state ("registered" or "drained") and _metadata_<name>; those without a value are left out.
The target is the address of the instance, with the port that --port or --port-metadata gives.
An instance that does not say its port is left out.`,
		Example: `  etcdrpc sd --port-metadata metrics_port
  etcdrpc sd --once --port 9100 acme/ > targets.json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeKeys,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store, args []string) error {
			prefix := strings.Join(args, "")
			if err := opts.check(cmd); err != nil {
				return usageError{err}
			}
			notes := cmd.ErrOrStderr()
			if !opts.once {
				return opts.serve(ctx, s, prefix, notes)
			}
			services, err := readServices(ctx, s, prefix, func(note string) { sayf(notes, "%s\n", note) })
			if err != nil {
				return err
			}
			return writeJSON(cmd.OutOrStdout(), targetsOf(services, opts.port))
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.listen, "listen", "127.0.0.1:9469", "serve at this `address`; whoever reaches it may read what it serves")
	flags.BoolVar(&opts.once, "once", false, "write the targets to standard output, and end")
	flags.IntVar(&opts.port.number, "port", 0, "the `port` of the metrics of every instance (default: the one of its address)")
	flags.StringVar(&opts.port.metadata, "port-metadata", "", "the `name` of the piece of metadata that is the port of an instance's metrics")
	return cmd
}

func (o *sdOptions) check(cmd *cobra.Command) error {
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	switch {
	case given("port") && given("port-metadata"):
		return errors.New("--port and --port-metadata exclude each other")
	case given("port") && (o.port.number < 1 || o.port.number > 65535):
		return errors.New("--port must be from 1 to 65535")
	case given("port-metadata") && o.port.metadata == "":
		return errors.New("--port-metadata must not be empty")
	case o.once && given("listen"):
		return errors.New("--once and --listen exclude each other")
	}
	return nil
}

// serve answers until ctx ends.
func (o *sdOptions) serve(ctx context.Context, s *store, prefix string, notes io.Writer) error {
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	sayf(notes, "Serving the targets under %q at http://%s/sd\n", s.full(prefix), listener.Addr().String())
	ranges := []keyRange{prefixRange(prefix)}
	if prefix != "" {
		ranges = append(ranges, prefixRange(configPrefix+prefix))
	}
	c := newCatalog(len(ranges), o.port)
	ctx, cancel := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	for part, r := range ranges {
		f := partFollower{store: s, catalog: c, part: part, keys: r, notes: notes}
		following.Go(func() { f.run(ctx) })
	}
	const grace = 2 * time.Second
	return serveHTTP(ctx, listener, &http.Server{
		Handler: ownname.Only(listener.Addr(), sdHandler(c)), MaxHeaderBytes: 16 << 10,
		ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}, grace)
}

// sdHandler answers Prometheus.
func sdHandler(c *catalog) http.Handler {
	answer := func(w http.ResponseWriter, r *http.Request) {
		text, known, err := c.json()
		switch {
		case err != nil:
			http.Error(w, "the targets cannot be written as JSON", http.StatusInternalServerError)
		case !known: // Prometheus keeps the targets that it has
			http.Error(w, "etcd has not been read yet", http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", answer)
	mux.HandleFunc("GET /sd", answer)
	return mux
}

// partFollower keeps a part of a catalog as etcd has it.
type partFollower struct {
	store   *store
	catalog *catalog
	part    int
	keys    keyRange
	notes   io.Writer
}

// run ends with ctx. While etcd fails, the catalog stays as it was.
func (f *partFollower) run(ctx context.Context) {
	last := ""
	for ctx.Err() == nil {
		err := f.follow(ctx, func() { last = "" })
		if err == nil || ctx.Err() != nil {
			continue // it is time to list again, or to end
		}
		if last != err.Error() {
			last = err.Error()
			sayf(f.notes, "etcdrpc: %s; trying again\n", err)
		}
		pause(ctx, retryAfter)
	}
}

// follow lists and then watches, and returns nil when it is time to list again.
func (f *partFollower) follow(ctx context.Context, listed func()) error {
	entries, revision, err := f.store.scan(ctx, f.keys)
	if errors.Is(err, errDenied) && f.isConfigs() {
		// Who may not see live configs still sees the instances.
		f.catalog.replace(f.part, nil)
		pause(ctx, relist)
		return nil
	}
	if errors.Is(err, errDenied) {
		return fmt.Errorf("%w: give a PREFIX that it may read", err)
	}
	if err != nil {
		return err
	}
	listed()
	f.catalog.replace(f.part, entries)
	watching, cancel := context.WithTimeout(ctx, relist)
	defer cancel()
	err = f.store.followEvents(watching, f.keys, revision, func(events []*clientv3.Event) { f.catalog.apply(f.part, events) })
	if watching.Err() != nil {
		return nil
	}
	return err
}

// isConfigs reports whether the keys are those of live configs.
func (f *partFollower) isConfigs() bool {
	return strings.HasPrefix(f.keys.from, endpoint.ReservedSegment+"/")
}
