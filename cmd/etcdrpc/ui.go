package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/ownname"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

func newUI(a *app) *cobra.Command {
	listen := ""
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Serve web pages of the services",
		Long: `ui serves pages that show all services and their instances as they change, and what is wrong with
them. It changes nothing. Whoever reaches the address may read what it serves: beyond this host, put
behind it what authenticates.`,
		Args: cobra.NoArgs,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, _ []string) error {
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("--listen: %w", err)
			}
			logger := log.New(cmd.ErrOrStderr(), "etcdrpc: ", 0)
			c := console.New(s, etcdText(s), logger)
			ctx, cancel := context.WithCancel(ctx)
			var following sync.WaitGroup
			defer following.Wait()
			defer cancel()
			following.Go(func() { c.Run(ctx) })
			output.Sayf(cmd.OutOrStdout(), "The console is at http://%s/\n", listener.Addr())
			return serveHTTP(ctx, listener, ownname.Only(listener.Addr(), c), logger)
		}),
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "serve at this `address`; whoever reaches it may read what it serves")
	return cmd
}

// etcdText says which etcd a console shows, and as whose.
func etcdText(s *store.Store) string {
	text := "etcd " + strings.Join(s.Endpoints(), ",")
	if namespace := s.Full(""); namespace != "" {
		text += " · namespace " + namespace
	}
	if s.User != "" {
		text += " · user " + s.User
	}
	return text
}
