package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/dialing"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// What the command ends with.
const (
	exitFine   = 0
	exitWrong  = 1 // something failed, or doctor found something
	exitUsage  = 2 // the command line makes no sense
	exitUnable = 3 // etcd is away or denies it, or the output cannot be written
)

// exitCode ends a command that has said already why it could not look.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// errFound ends a command that has said already what is wrong.
var errFound = errors.New("something is wrong")

// app is what the commands share.
type app struct {
	settings settings
	output   output.Format
	stdin    io.Reader
	dial     dialing.Func // to instances
	running  bool         // the command line was understood
}

// complete panics where a completion could not be registered, which is a mistake in the program.
func complete(err error) {
	if err != nil {
		panic(err)
	}
}

// action is what a command does, connected to etcd.
type action func(ctx context.Context, cmd *cobra.Command, s *store.Store, args []string) error

// connected makes an action a cobra command's RunE.
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

// open connects to etcd once the command line and the environment are understood.
func (a *app) open(cmd *cobra.Command, warnings io.Writer) (*store.Store, error) {
	if err := fromEnvironment(cmd.Flags(), os.LookupEnv); err != nil {
		return nil, err
	}
	a.running, a.settings.warnings = true, warnings
	return a.settings.open(cmd.Context())
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
