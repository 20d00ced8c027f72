// Command etcdrpc shows and mends what gRPC services keep in etcd: the instances of each service,
// its live service config, and what is wrong with either. It is found in docs/etcdrpc.md.
//
// etcd is read and written in store.go alone, and what is read is made sense of in survey.go.
// render.go makes rows and JSON of that, and print.go writes them: nothing else writes anything, but for watchscreen.go, which draws
// on a terminal, and sd.go, which answers Prometheus. Each command has a file of its own;
// what adopt infers is in adopt*.go, and knows nothing of etcd but the entries.
// The web console keeps a live view in ui*.go; its pages are in internal/console.
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
