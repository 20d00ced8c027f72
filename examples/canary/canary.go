// Package canary moves the calls of running clients from one version to the next, step by step, with
// one etcd key and without a restart. Run it from the directory above:
//
//	go run . canary
//
// The example starts an etcd, two servers of version v1 and one of v2. It gives v2 5 % of the calls, then half, then drains one of the old
// servers, then deletes the config. After each step it makes 2000 calls and counts them by server. It exits with 1 if a share is wrong.
package canary

import (
	"context"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const calls = 2000

// step is a live service config, and the resulting share of calls of each server, in percent.
type step struct {
	title, config string
	want          map[string]float64
}

var steps = []step{
	{"5 % for v2", `{"loadBalancingConfig":[{"etcd":{"split":[
		{"match":{"version":"v2"},"weight":5},
		{"match":{"version":"v1"},"weight":95}]}}]}`,
		map[string]float64{"new": 5, "old-1": 47.5, "old-2": 47.5}},
	{"half for v2", `{"loadBalancingConfig":[{"etcd":{"split":[
		{"match":{"version":"v2"},"weight":50},
		{"match":{"version":"v1"},"weight":50}]}}]}`,
		map[string]float64{"new": 50, "old-1": 25, "old-2": 25}},
	{"half for v2, and nothing for old-1", `{"loadBalancingConfig":[{"etcd":{"split":[
		{"match":{"version":"v2"},"weight":50},
		{"match":{"version":"v1"},"weight":50}],
		"drain":["old-1"]}}]}`,
		map[string]float64{"new": 50, "old-2": 50}},
	{"no live config", "", map[string]float64{"new": 100. / 3, "old-1": 100. / 3, "old-2": 100. / 3}},
}

// Example is the entry point for the command in the directory above.
var Example = show.Example{Name: "canary", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	registry, err := stage.Registry()
	if err != nil {
		return err
	}
	for name, version := range map[string]string{"old-1": "v1", "old-2": "v1", "new": "v2"} {
		if _, err := stage.Greeter(ctx, grpc.NewServer(), name, registry, runtime.WithVersion(version)); err != nil {
			return err
		}
	}
	client, err := stage.Client()
	if err != nil {
		return err
	}
	if err := settled(ctx, stage, client, step{title: "three servers", want: steps[3].want}); err != nil {
		return err
	}
	for _, step := range steps {
		if err := put(ctx, stage, registry, client, step); err != nil {
			return err
		}
	}
	return nil
}

// put puts a live config, as an operator would, and waits until the running client applies it.
func put(ctx context.Context, stage *show.Stage, registry *runtime.Registry, client greeterv1.GreeterServiceClient, step step) error {
	if err := registry.SetServiceConfig(ctx, greeterv1.GreeterService_EtcdServiceDesc.Key, step.config); err != nil {
		return err
	}
	start := time.Now()
	if err := settled(ctx, stage, client, step); err != nil {
		return err
	}
	took := time.Since(start)
	shares, err := show.Count(ctx, calls, show.Greet(client))
	if err != nil {
		return err
	}
	if !matches(shares, step.want, 1) {
		return fmt.Errorf("%s: the shares of %d calls are %v, want %v", step.title, calls, shares, step.want)
	}
	stage.Say("%s: %v (in force within %v)", step.title, shares, took.Round(time.Millisecond))
	return nil
}

// settled waits until the shares roughly match the step.
func settled(ctx context.Context, stage *show.Stage, client greeterv1.GreeterServiceClient, step step) error {
	return stage.Until(ctx, step.title, func(ctx context.Context) (bool, error) {
		shares, err := show.Count(ctx, 100, show.Greet(client))
		return matches(shares, step.want, 3), err
	})
}

// matches reports whether each server's share differs from want by at most the given percentage points.
func matches(shares show.Shares, want map[string]float64, points float64) bool {
	if len(shares) != len(want) {
		return false
	}
	for server, percent := range want {
		if math.Abs(shares.Percent(server)-percent) > points {
			return false
		}
	}
	return true
}
