package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"net"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/fleet"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/ownname"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
)

// leastToken is how long a token has to be, in bytes, that nobody is to guess.
const leastToken = 16

type ui struct {
	listen    string
	tokenFile string
	hosts     []string
	readOnly  bool
	links     []string
}

func newUI(a *app) *cobra.Command {
	var u ui
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Serve a web console of the services",
		Long: `ui serves a web console that shows all services and their instances as they change,
finds what is wrong, drains instances, and changes splits and live configs:
checked, with the difference shown before anything is written.

Whoever opens the console acts as the user that etcdrpc was given. It speaks plain
HTTP: beyond this host, put a proxy with TLS before it.`,
		Example: `  etcdrpc ui
  etcdrpc ui --read-only --listen 0.0.0.0:8080 --token-file console.token --host console.example.com`,
		Args: cobra.NoArgs,
		RunE: a.connected(func(ctx context.Context, cmd *cobra.Command, s *store.Store, _ []string) error {
			return u.serve(ctx, cmd, s)
		}),
	}
	cmd.Flags().StringVar(&u.listen, "listen", "127.0.0.1:0", "the `address` to listen on; one that is not a loopback address needs a token")
	cmd.Flags().StringVar(&u.tokenFile, "token-file", "", "the `file` with the token that the console asks for; without it one is made and printed where one is needed")
	cmd.Flags().StringSliceVar(&u.hosts, "host", nil, "`names` that the console may be called by, besides addresses, separated by commas: those of a proxy, say")
	cmd.Flags().StringArrayVar(&u.links, "link", nil, "a link on the page of each service to what others say of it: `NAME=URL`, where {key} in the URL stands for its key")
	cmd.Flags().BoolVar(&u.readOnly, "read-only", false, "write nothing")
	return cmd
}

func (u *ui) serve(ctx context.Context, cmd *cobra.Command, s *store.Store) error {
	links, err := u.parseLinks()
	if err != nil {
		return usage.Mistake(err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", u.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	defer listener.Close()
	token, made, err := u.token(listener.Addr())
	if err != nil {
		return err
	}
	hosts := u.hosts
	if host, _, err := net.SplitHostPort(u.listen); err == nil && host != "" {
		hosts = append(hosts, host)
	}
	logger := log.New(cmd.ErrOrStderr(), "etcdrpc: ", 0)
	f := fleet.Start(ctx, s)
	defer f.Close()
	c := console.New(console.Options{
		Backend: f, Token: token, Hosts: hosts, ReadOnly: u.readOnly, Loopback: ownname.Loopback(listener.Addr()), Etcd: etcdText(s), Links: links, Log: logger,
	})
	out := cmd.OutOrStdout()
	output.Sayf(out, "The console is at http://%s/\n", listener.Addr())
	if made {
		output.Sayf(out, "Its token is %s\n", token)
	}
	if !ownname.Loopback(listener.Addr()) {
		output.Sayf(cmd.ErrOrStderr(), "etcdrpc: warning: beyond this host the token and the pages are sent without TLS: put a proxy with TLS before the console\n")
	}
	return serveHTTP(ctx, listener, c, logger)
}

func (u *ui) parseLinks() (links []console.Link, err error) {
	for _, text := range u.links {
		link, err := console.ParseLink(text)
		if err != nil {
			return nil, fmt.Errorf("--link: %w", err)
		}
		links = append(links, link)
	}
	return links, nil
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

// token returns the token that the console asks for, "" for none, and whether it was made just now.
func (u *ui) token(at net.Addr) (token string, made bool, err error) {
	if u.tokenFile != "" {
		raw, err := os.ReadFile(u.tokenFile)
		if err != nil {
			return "", false, fmt.Errorf("--token-file: %w", err)
		}
		token := strings.TrimSpace(string(raw))
		if len(token) < leastToken {
			return "", false, usage.Mistake(fmt.Errorf("--token-file: the token in %s has %d bytes: want at least %d", u.tokenFile, len(token), leastToken))
		}
		return token, false, nil
	}
	if ownname.Loopback(at) {
		return "", false, nil
	}
	return rand.Text(), true, nil
}
