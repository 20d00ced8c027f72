// Package grpccheck reports whether gRPC accepts a service config. It is
// separate from package serviceconfig to keep gRPC, which is large, out of the
// generator.
package grpccheck

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Live parses a live config as this binary's clients do. It returns an error if
// [serviceconfig.ParseLive] does, if a policy is not linked, or if gRPC rejects
// the config.
func Live(text string) (*serviceconfig.Config, error) {
	c, err := serviceconfig.ParseLive(text)
	if err != nil {
		return nil, err
	}

	if err := c.Linked(Registered); err != nil {
		return nil, err
	}

	if err := parse(c.JSON()); err != nil {
		return nil, err
	}

	return c, nil
}

// Registered reports whether a policy is linked in this binary.
func Registered(policy string) bool {
	return balancer.Get(policy) != nil
}

// parse parses a config with gRPC, by creating a client that does not connect.
// A panic in gRPC becomes an error, because anyone may have written the config.
func parse(text string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("gRPC panics at the service config: %s",
				printable.Short(fmt.Sprint(p), 200))
		}
	}()

	conn, err := grpc.NewClient("passthrough:///unused",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(text))
	if err != nil {
		return fmt.Errorf("gRPC refuses the service config: %w", err)
	}

	return conn.Close()
}
