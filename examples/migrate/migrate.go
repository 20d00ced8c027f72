// Package migrate moves a service from go-zero's keys to etcd's own layout,
// under load and without losing a call. Run it from the directory above:
//
//	go run . migrate
//
// old.go has the starting point: a server that puts <key>/<lease id> by itself,
// and a caller that lists and watches the key and uses the values as addresses.
// The steps are those of docs/migration.md:
//
//  1. Dual write: a server that writes both layouts takes the place of the old one.
//  2. Switch: a caller with a generated client takes the place of the old one.
//  3. Drop: a server that writes the new layout alone takes the place of the server that writes both.
//
// The command exits with 1 when a call fails.
package migrate

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var key = greeterv1.GreeterService_EtcdServiceDesc.Key

// Example is the entry point for the command in the directory above.
var Example = show.Example{Name: "migrate", Play: play}

func play(ctx context.Context, stage *show.Stage) error {
	registry, err := stage.Registry()
	if err != nil {
		return err
	}

	withdraw, err := startOld(ctx, stage, "old")
	if err != nil {
		return err
	}

	oldCaller, err := oldClient(stage)
	if err != nil {
		return err
	}

	oldCalls := stage.Load(ctx, oldCaller)
	if err := reached(ctx, stage, "before", oldCalls, "old"); err != nil {
		return err
	}

	stopDual, err := stage.Greeter(ctx, "dual", registry,
		runtime.WithLayouts(runtime.GoZero, runtime.EndpointJSON))
	if err != nil {
		return err
	}

	if err := reached(ctx, stage, "dual write", oldCalls, "old", "dual"); err != nil {
		return err
	}

	if err := withdraw(); err != nil {
		return err
	}

	err = reached(ctx, stage, "the old server has left", oldCalls, "dual")
	if err != nil {
		return err
	}

	caller, err := stage.Client()
	if err != nil {
		return err
	}

	calls := stage.Load(ctx, caller)
	if err := reached(ctx, stage, "the new caller calls", calls, "dual"); err != nil {
		return err
	}

	if err := oldCalls.Stop(); err != nil {
		return err
	}

	if _, err := stage.Greeter(ctx, "new", registry); err != nil {
		return err
	}

	err = reached(ctx, stage, "a server of the new layout", calls, "dual", "new")
	if err != nil {
		return err
	}

	if err := stopDual(); err != nil {
		return err
	}

	if err := reached(ctx, stage, "the new layout alone", calls, "new"); err != nil {
		return err
	}

	if err := calls.Stop(); err != nil {
		return err
	}

	stage.Say("%d calls of the old caller and %d of the new one: none failed",
		oldCalls.Total(), calls.Total())

	return dropped(ctx, stage)
}

// dropped returns an error if the old layout still has entries.
func dropped(ctx context.Context, stage *show.Stage) error {
	remaining, err := stage.Etcd.Admin().Get(ctx, key+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}

	for _, kv := range remaining.Kvs {
		if !strings.HasPrefix(string(kv.Value), "{") {
			return fmt.Errorf("%s is still in the old layout: %s", kv.Key, kv.Value)
		}
	}

	return nil
}

// reached waits until calls reach exactly these servers, and prints their
// names.
func reached(
	ctx context.Context,
	stage *show.Stage,
	title string,
	calls *show.Load,
	servers ...string,
) error {
	if err := stage.Reach(ctx, calls, servers...); err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}

	stage.Say("%s: calls reach %s", title, strings.Join(servers, ", "))

	return nil
}
