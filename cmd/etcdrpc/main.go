// Command etcdrpc shows and mends what gRPC services keep in etcd: the instances of each service,
// its live service config, and what is wrong with either. It is found in docs/etcdrpc.md.
//
// Each command has a file of its own here, with its flags and its help; what it does is in a package below internal:
//
//	store       reads snapshots of etcd, follows it and writes live configs
//	survey      makes services and instances of what a snapshot has; pure
//	steer       explains where calls go, and changes it
//	doctor      finds what is wrong with a snapshot; pure but for the probes of instances
//	targets     tells Prometheus of a snapshot
//	console     shows snapshots as web pages
//	liveconfig  edits the text of live configs
//	output      writes everything, but for what HTTP servers answer
//
// The commands register and xds go by package runtime.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not heed the first
	return execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// outliveReaders has what is written fail where nobody is left to read it, until stop is called. Else Go would end the process.
func outliveReaders() (stop func()) {
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	return func() { signal.Stop(pipes) }
}
