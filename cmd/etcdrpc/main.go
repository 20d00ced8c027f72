// Command etcdrpc shows and edits the data of gRPC services in etcd: the instances of each service,
// its live service config, and the faults of both. See docs/etcdrpc.md.
//
// Each command has a file here, with its flags and its help. Packages below internal implement them:
//
//	store       reads snapshots of etcd, follows it and writes live configs
//	inventory   decodes the entries of a snapshot into services and instances; pure
//	policyedit  explains where calls go, and edits live policies
//	doctor      finds faults in a snapshot; pure except for the probes of instances
//	targets     lists a snapshot as Prometheus targets
//	console     shows snapshots as web pages
//	liveconfig  edits the text of live configs
//	output      prints all output, except HTTP responses
//
// The commands register and xds use package runtime.
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
	context.AfterFunc(ctx, stop) // a second signal kills the process
	return execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// ignoreSIGPIPE makes writes to a closed pipe return an error until stop is called. Otherwise Go ends the process.
func ignoreSIGPIPE() (stop func()) {
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	return func() { signal.Stop(pipes) }
}
