// Package slowstart adds a server to two that have run for a while, and shows how its share of the calls grows
// over three seconds. Run it from the directory above:
//
//	go run . slowstart
//
// It starts an etcd and the servers, and exits with 1 when the share does not begin small or does not become
// the full one.
package slowstart

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
)

const (
	// window is how long the share of a new server grows. Half a minute is usual where caches have to fill.
	window = 3 * time.Second
	// full is the percentage of one of three servers, less what a count may be off.
	full = 32.0
)

var config = fmt.Sprintf(`{"loadBalancingConfig":[{"etcd":{"slowStart":{"window":%q,"minPercent":10}}}]}`, window)

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "slowstart", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	servers, err := stage.Registry()
	if err != nil {
		return err
	}
	for _, name := range []string{"old-1", "old-2"} {
		if _, err := stage.Greeter(ctx, name, servers); err != nil {
			return err
		}
	}
	if err := servers.SetServiceConfig(ctx, greeterv1.GreeterService_EtcdServiceDesc.Key, config); err != nil {
		return err
	}
	callers, err := stage.Registry()
	if err != nil {
		return err
	}
	client, err := greeterv1.NewGreeterServiceClientFromEtcd(callers, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	count := func() (show.Shares, error) { return show.Count(ctx, 300, show.Greet(client)) }
	if _, err := count(); err != nil {
		return err
	}
	stage.Say("two servers warm up for %v", window)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(window + time.Second): // entries say only to the second when servers started
	}
	if _, err := stage.Greeter(ctx, "new", servers); err != nil {
		return err
	}
	return watch(ctx, stage, count)
}

// watch says how the share of the new server grows.
func watch(ctx context.Context, stage *show.Stage, count func() (show.Shares, error)) error {
	first, said := 0.0, time.Time{}
	err := stage.Until(ctx, "the new server has its full share", func(context.Context) (bool, error) {
		shares, err := count()
		if err != nil {
			return false, err
		}
		now := shares.Percent("new")
		if now == 0 {
			return false, nil
		}
		if first == 0 {
			first = now
		}
		if time.Since(said) >= window/4 || now >= full {
			stage.Say("%v", shares)
			said = time.Now()
		}
		return now >= full, nil
	})
	if err != nil {
		return err
	}
	stage.Say("the new server began with %.1f %% of the calls, and now has its full share", first)
	return nil
}
