// Command examples runs an example on an etcd of its own:
//
//	go run . migrate
//
// The example prints what happens in plain words and ends by itself in seconds.
// The exit status is 1 if an expected result is missing. Without a name, the
// command lists the examples.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/kubernetes"
	"github.com/etcdrpc/protoc-gen-go-etcd/examples/migrate"
)

// examples lists the examples of this command, in the order of README.md.
var examples = []show.Example{migrate.Example, kubernetes.Example}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	for _, example := range examples {
		if len(os.Args) != 2 || example.Name != os.Args[1] {
			continue
		}

		if err := example.Run(ctx, os.Stdout); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", example.Name, err)
			os.Exit(1) //nolint:gocritic // the process ends, so stop is not needed
		}

		return
	}

	fmt.Fprintln(os.Stderr, "Name one of these, for example: go run . migrate")

	for _, example := range examples {
		fmt.Fprintln(os.Stderr, "  "+example.Name)
	}

	os.Exit(2)
}
