package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

const (
	callTimeout = 20 * time.Second
	thinkTime   = 20 * time.Millisecond // between two calls of a client
	closeBound  = time.Second

	// retries is what a service that may lose a server says in its proto file.
	retries = `"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.05s",` +
		`"maxBackoff":"0.5s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]`
)

// policies are shared out among the clients.
var policies = []string{
	`{"round_robin":{}}`,
	`{"least_request_experimental":{"choiceCount":2}}`,
	`{"etcd_weighted":{}}`,
	`{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}`,
}

// client is one of the clients: what a process would have.
type client struct {
	index     int
	etcd      *clientv3.Client
	registry  *runtime.Registry
	caller    basic.GreeterClient // retries
	prober    basic.GreeterClient // does not
	instances *runtime.Instances  // to see what it knows
}

func newClient(index int, cfg clientv3.Config, logger *slog.Logger) (*client, error) {
	etcd, err := clientv3.New(cfg)
	if err != nil {
		return nil, err
	}
	c := &client{index: index, etcd: etcd}
	c.registry = runtime.NewRegistry(etcd, runtime.WithLogger(logger.With("client", index)))
	policy := `"loadBalancingConfig":[` + policies[index%len(policies)] + `]`
	var errs [3]error
	c.caller, errs[0] = c.dial(`{` + policy + `,` + retries + `}`)
	c.prober, errs[1] = c.dial(`{` + policy + `}`)
	c.instances, errs[2] = c.registry.NewInstances(&basic.Greeter_EtcdServiceDesc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *client) dial(config string) (basic.GreeterClient, error) {
	return basic.NewGreeterClientFromEtcd(c.registry,
		grpc.WithTransportCredentials(insecure.NewCredentials()), runtime.WithDefaultServiceConfig(config))
}

// knows returns the addresses that the client has of etcd, by instance, without those that are only
// held; nil while it has none.
func (c *client) knows() map[string]string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	all, err := c.instances.All(ctx)
	if err != nil {
		return nil
	}
	addrs := make(map[string]string, len(all))
	for _, i := range all {
		addrs[i.Instance] = i.Addr
	}
	return addrs
}

// call calls without an end. It returns the first error of a call.
func (c *client) call(ctx context.Context, calls *atomic.Int64) error {
	for n := 0; ctx.Err() == nil; n++ {
		began := time.Now()
		// The end of the soak is no reason for a call to fail.
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		_, err := c.caller.SayHello(runtime.WithAffinity(call, strconv.Itoa(n)), &basic.HelloRequest{})
		cancel()
		if err != nil {
			return fmt.Errorf("a call of client %d, with the policy %s, failed after %v: %w",
				c.index, policies[c.index%len(policies)], time.Since(began).Round(time.Millisecond), err)
		}
		calls.Add(1)
		sleep(ctx, thinkTime)
	}
	return nil
}

// probe has the connection reach each server of the set.
func (c *client) probe(ctx context.Context, set map[string]string) error {
	for instance, addr := range set {
		reply, err := c.target(ctx, instance)
		if err != nil {
			return fmt.Errorf("client %d does not reach %s, which is in etcd: %w", c.index, instance, err)
		}
		if reply != addr {
			return fmt.Errorf("client %d reaches %s for %s", c.index, reply, addr)
		}
	}
	return nil
}

func (c *client) target(ctx context.Context, instance string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ctx = runtime.WithAffinity(runtime.WithTarget(ctx, instance), instance)
	reply, err := c.prober.SayHello(ctx, &basic.HelloRequest{})
	return reply.GetMessage(), err
}

// close ends the client, which has nothing in etcd to wait for.
func (c *client) close() error {
	began := time.Now()
	err := c.registry.Close(context.Background())
	if closing := c.etcd.Close(); !errors.Is(closing, context.Canceled) { // which is how it ends
		err = errors.Join(err, closing)
	}
	if took := time.Since(began); took > closeBound {
		err = errors.Join(err, fmt.Errorf("client %d took %v to close, more than %v", c.index, took, closeBound))
	}
	return err
}
