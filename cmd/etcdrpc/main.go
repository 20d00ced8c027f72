// Command etcdrpc shows and mends what gRPC services keep in etcd: the instances of each service,
// its live service config, and what is wrong with either. It is found in docs/etcdrpc.md.
//
// Each command has a file of its own here, with its flags and its help; what it does is in a package below internal. There,
// store reads and writes etcd, and survey makes services and instances of what it reads, without a look at etcd. On these
// two stand steer, which explains and changes where calls go, doctor, adopt, invoke, targets, and fleet, which follows etcd
// for the pages of console. By package runtime, supervise keeps the servers that it runs in etcd, and xds.go follows services;
// doctor takes a type of it. Everything that is written goes through output, but for what watchscreen.go draws on a terminal
// and what the HTTP servers answer.
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
