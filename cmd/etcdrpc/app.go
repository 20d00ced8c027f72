package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/transport"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Exit codes.
const (
	exitFine   = 0
	exitWrong  = 1 // an error, or doctor found faults
	exitUsage  = 2 // the command line is invalid
	exitUnable = 3 // etcd is unavailable or denies access, or the output cannot be written
)

// exitCode exits with a code, after the command printed the reason.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// errFound exits after the command printed the faults.
const errFound = exitCode(exitWrong)

// app is the state shared by the commands.
type app struct {
	settings settings
	output   output.Format
	stdin    io.Reader
	getenv   func(name string) string
	dial     transport.DialFunc // to instances
	written  bool               // a live config was written
	running  bool               // the command line was valid
}

// complete panics if a completion could not be registered, which is a programming error.
func complete(err error) {
	if err != nil {
		panic(err)
	}
}

// action runs a command that is connected to etcd.
type action func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error

// connected returns the RunE of a cobra command that connects to etcd and runs do.
func (a *app) connected(do action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := a.open(cmd, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		defer s.Close()
		return do(cmd.Context(), cmd, s, args)
	}
}

// open connects to etcd.
func (a *app) open(cmd *cobra.Command, warnings io.Writer) (*store.Store, error) {
	if err := a.begin(cmd); err != nil {
		return nil, err
	}
	a.settings.warnings = warnings
	return a.settings.open(cmd.Context())
}

// begin reads the environment. Later errors are not about how the command line is written.
func (a *app) begin(cmd *cobra.Command) error {
	if err := fromEnvironment(cmd.Flags(), a.getenv); err != nil {
		return err
	}
	a.running = true
	return nil
}

// keyArgs accepts a service key, and n more arguments.
func keyArgs(more int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(1+more)(cmd, args); err != nil {
			return err
		}
		return endpoint.CheckKey(args[0])
	}
}
