// Command etcd runs an etcd of one member for experiments, until it is
// interrupted. It is a real etcd, but not for production: its data is deleted
// when it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

func main() {
	log.SetFlags(0)
	listen := flag.String("listen", "127.0.0.1:2379", "`address` for clients")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	if err := run(ctx, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen string) error {
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	cluster, err := etcdtest.New(dir, etcdtest.WithAddress(listen))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: use it if it is an etcd, or give -listen another port, and name that to the programs by -etcd", err)
	}

	if err != nil {
		return err
	}
	defer cluster.Close()

	fmt.Println("etcd is at", cluster.Endpoints()[0])
	forget(ctx, cluster.Calls(), time.Second)

	return nil
}

// forget removes the recorded requests at intervals until ctx ends, so that
// they do not accumulate.
func forget(ctx context.Context, calls *etcdtest.Calls, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			calls.Reset()
		}
	}
}
