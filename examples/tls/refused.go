package tls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// callerRegisters has the caller try to put an entry.
func callerRegisters(ctx context.Context, stage *show.Stage, registry *runtime.Registry) error {
	_, err := registry.Register(ctx, key, runtime.Endpoint{Addr: "10.6.6.6:80"})
	return refused(stage, "the caller cannot register a server", err, "permission denied")
}

// plaintext forgets the credentials.
func plaintext(stage *show.Stage, registry *runtime.Registry) error {
	_, err := greeterv1.NewGreeterServiceClientFromEtcd(registry)
	return refused(stage, "a client without credentials is an error", err, "no transport security")
}

// impostor registers a server whose certificate is another service's, with the rights of a real one.
func impostor(ctx context.Context, stage *show.Stage, authority *authority, client greeterv1.GreeterServiceClient) error {
	server, err := greeter(ctx, stage, authority, "impostor", "acme.other")
	if err != nil {
		return err
	}
	// A call that names it connects to it for certain. The greeter's calls would wait for it to be ready.
	call := func(ctx context.Context) error {
		_, err := client.SayHello(runtime.WithTarget(ctx, "impostor"), &greeterv1.SayHelloRequest{}, grpc.WaitForReady(false))
		return err
	}
	err = stage.Until(ctx, "the caller knows the impostor", func(ctx context.Context) (bool, error) {
		err := call(ctx)
		return err == nil || !strings.Contains(err.Error(), "no instance"), nil
	})
	if err != nil {
		return err
	}
	err = call(ctx)
	if err := refused(stage, "an impostor in etcd fails the handshake", err, "acme.greeter"); err != nil {
		return err
	}
	shares, err := show.Count(ctx, 100, show.Greet(client))
	if err != nil {
		return err
	}
	if !shares.Only("greeter-1") {
		return fmt.Errorf("calls reached %v", shares)
	}
	stage.Say("and of 100 calls none reaches it, nor fails")
	return server.Stop()
}

// refused fails unless err says that it was, for the reason.
func refused(stage *show.Stage, what string, err error, reason string) error {
	if err == nil {
		return errors.New("not so: " + what)
	}
	if !strings.Contains(err.Error(), reason) {
		return fmt.Errorf("%s, but with another error: %w", what, err)
	}
	lines := slices.Collect(strings.Lines(err.Error()))
	stage.Say("%s: %s", what, strings.TrimSpace(lines[0]))
	return nil
}
