// Package broadcast calls every instance of a service once. Run it from the directory above:
//
//	go run . broadcast
//
// runtime.Each does it, for whatever concerns all instances: dropping a cache, reading a setting,
// gathering numbers. The example calls three servers. It starts a fourth while calls are under
// way, which is called the next time. And it registers one that does not answer, which delays
// none of the others and is named in the error. It exits with 1 when a server was called more or
// less than once.
package broadcast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// patience is how long the calls may take that meet a crashed server.
const patience = time.Second

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "broadcast", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	servers, err := stage.Registry()
	if err != nil {
		return err
	}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := stage.Greeter(ctx, name, servers); err != nil {
			return err
		}
	}
	callers, err := stage.Registry()
	if err != nil {
		return err
	}
	// Kept for as long as calls are made: an instance is connected to once.
	instances, err := callers.NewInstances(&greeterv1.GreeterService_EtcdServiceDesc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer instances.Close()
	// While the calls are under way, a fourth server comes up.
	join := sync.OnceValue(func() error {
		_, err := stage.Greeter(ctx, "d", servers)
		return err
	})
	answered, err := each(ctx, instances, join)
	if err := check(stage, "while d came up", answered, err, "a b c"); err != nil {
		return err
	}
	if err := known(ctx, callers, "d"); err != nil {
		return err
	}
	answered, err = each(ctx, instances, nil)
	if err := check(stage, "with d", answered, err, "a b c d"); err != nil {
		return err
	}
	return crashed(ctx, stage, instances, callers, servers)
}

// each calls every instance and returns the names of those that answered, once for each time.
func each(ctx context.Context, instances *runtime.Instances, before func() error) ([]string, error) {
	var mu sync.Mutex
	var answered []string
	err := runtime.Each(ctx, instances, greeterv1.NewGreeterServiceClient,
		func(ctx context.Context, endpoint runtime.Endpoint, client greeterv1.GreeterServiceClient) error {
			if before != nil {
				if err := before(); err != nil {
					return err
				}
			}
			reply, err := client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: endpoint.Instance})
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			answered = append(answered, reply.GetServer())
			return nil
		})
	slices.Sort(answered)
	return answered, err
}

// check fails if not exactly these servers answered, each once.
func check(stage *show.Stage, title string, answered []string, err error, want string) error {
	if err != nil {
		return err
	}
	if got := strings.Join(answered, " "); got != want {
		return fmt.Errorf("%s: %q answered, want %q", title, got, want)
	}
	stage.Say("%s: each of %s was called once", title, want)
	return nil
}

// known waits until the endpoints include an instance.
func known(ctx context.Context, registry *runtime.Registry, instance string) error {
	for endpoints, err := range registry.Watch(ctx, greeterv1.GreeterService_EtcdServiceDesc.Key) {
		if err != nil {
			return err
		}
		if slices.ContainsFunc(endpoints, func(e runtime.Endpoint) bool { return e.Instance == instance }) {
			return nil
		}
	}
	return ctx.Err()
}

// crashed has an instance that is in etcd and does not answer.
func crashed(ctx context.Context, stage *show.Stage, instances *runtime.Instances, callers, servers *runtime.Registry) error {
	if err := stage.Down(ctx, "e", greeterv1.GreeterService_EtcdServiceDesc.Key, servers); err != nil {
		return err
	}
	if err := known(ctx, callers, "e"); err != nil {
		return err
	}
	// The greeter's calls wait for servers to be ready; here that is not to take long.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answered, err := each(ctx, instances, nil)
	if err == nil || !strings.Contains(err.Error(), `instance "e"`) {
		return fmt.Errorf("e does not answer, and the error does not say so: %w", err)
	}
	if got := strings.Join(answered, " "); got != "a b c d" {
		return errors.Join(fmt.Errorf("beside e, %q answered, want a b c d", got), err)
	}
	stage.Say("with e, which has crashed: each of a b c d was called once, and the error is: %v", err)
	return nil
}
