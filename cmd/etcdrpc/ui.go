package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

func newUI(a *app) *cobra.Command {
	listen := ""
	readOnly := false
	cmd := &cobra.Command{
		Use:   "ui [KEY]",
		Short: "Serve web pages of the services",
		Long: `ui serves pages that show all services and their instances as they change, and what is
wrong with them. With KEY, it reads and shows only the service there. Forms drain and
undrain instances, and split calls among versions; each shows what it does before it
is written. The page after a write has a button that undoes it, until the next write.

Anyone who reaches the address acts as the user of etcd that ui was started with. So an
address that others than this host reach needs --read-only.`,
		Example: `  etcdrpc ui
  etcdrpc ui acme/user
  etcdrpc ui --read-only --listen 0.0.0.0:8080`,
		Args:              keyArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: a.completion(nil),
		RunE: a.connected(func(ctx context.Context, s *store.Store, args []string) error {
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("--listen: %w", err)
			}
			defer listener.Close()

			if !readOnly && !isLocal(listener.Addr().String()) {
				return usage.Mistakef("--listen %s: anyone who reaches that address could change live configs: give --read-only, or an address of this host alone such as 127.0.0.1:8080", listen)
			}

			etcd := "etcd " + strings.Join(s.Endpoints, ",")
			if s.Namespace != "" {
				etcd += " · namespace " + s.Namespace
			}

			if s.User != "" {
				etcd += " · user " + s.User
			}

			logger := log.New(a.notes, "etcdrpc: ", 0)
			c := console.New(s, strings.Join(args, ""), etcd, readOnly, logger)
			output.Sayf(a.out, "The console is at %s\n", urlOf(listener))

			return servePages(ctx, listener, c, a.notes, c.Run)
		}),
	}

	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0",
		"serve at this `address`; anyone who reaches it may read what it serves, and change it unless it is --read-only")
	cmd.Flags().BoolVar(&readOnly, "read-only", false,
		"serve no forms, and refuse all changes")

	return cmd
}
