package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// retries is the part of a service config that repeats calls which fail with
// UNAVAILABLE, such as calls to a killed server.
const retries = `"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.05s",` +
	`"maxBackoff":"0.5s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]`

// policies holds the policies of the clients: client i has policy i modulo 4.
var policies = []string{
	`{"round_robin":{}}`,
	`{"least_request_experimental":{"choiceCount":2}}`,
	`{"etcd_weighted":{}}`,
	`{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`,
}

// client is one calling process.
type client struct {
	policy    string
	etcd      *clientv3.Client
	registry  *runtime.Registry
	caller    basic.GreeterClient
	instances *runtime.Instances // the servers that the client knows
}

func newClient(index int, cfg clientv3.Config) (*client, error) {
	etcd, err := clientv3.New(cfg)
	if err != nil {
		return nil, err
	}

	c := &client{
		policy:   policies[index%len(policies)],
		etcd:     etcd,
		registry: runtime.NewRegistry(etcd, silent),
	}

	insecurely := grpc.WithTransportCredentials(insecure.NewCredentials())
	config := `{"loadBalancingConfig":[` + c.policy + `],` + retries + `}`
	c.caller, err = basic.NewGreeterClientFromEtcd(c.registry, insecurely,
		runtime.WithDefaultServiceConfig(config))

	var instancesErr error
	c.instances, instancesErr = c.registry.NewInstances(&basic.Greeter_EtcdServiceDesc,
		insecurely)

	return c, errors.Join(err, instancesErr)
}

// call makes calls until ctx ends or a call fails.
func (c *client) call(ctx context.Context, calls *atomic.Int64) error {
	for n := 0; ctx.Err() == nil; n++ {
		// The end of ctx does not cancel a call that is under way.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		_, err := c.caller.SayHello(runtime.WithAffinity(call, strconv.Itoa(n)),
			&basic.HelloRequest{})
		cancel()

		if err != nil {
			return fmt.Errorf("a call with the policy %s: %w", c.policy, err)
		}

		calls.Add(1)
		sleep(ctx, 50*time.Millisecond)
	}

	return nil
}

// reach calls each server that the client knows and returns the addresses of
// these servers.
func (c *client) reach(ctx context.Context) (map[string]bool, error) {
	var mu sync.Mutex
	reached := map[string]bool{}

	hello := func(
		ctx context.Context,
		e runtime.Endpoint,
		one basic.GreeterClient,
	) error {
		reply, err := one.SayHello(ctx, &basic.HelloRequest{})
		if err == nil && reply.Message != e.Addr {
			err = fmt.Errorf("a call to %[2]s was answered by %[1]s", reply.Message,
				e.Addr)
		}

		mu.Lock()
		defer mu.Unlock()

		reached[e.Addr] = err == nil

		return err
	}

	return reached, runtime.Each(ctx, c.instances, basic.NewGreeterClient, hello)
}

// close closes the registry and the etcd client.
func (c *client) close() error {
	err := c.registry.Close(context.Background())
	closing := c.etcd.Close()

	// an etcd client returns Canceled after a normal close
	if !errors.Is(closing, context.Canceled) {
		err = errors.Join(err, closing)
	}

	return err
}
