package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// Instances makes calls to each instance of a service, for example to flush
// every cache. One gRPC connection serves all instances. The first call to an
// instance connects to it, and that connection stays open. Instances is safe
// for concurrent use.
type Instances struct {
	builder *clientBuilder
	conn    *grpc.ClientConn
	key     *discovery.Key
	life    context.Context // ends with Close or with the registry
	stop    func()          // ends life, and stops reading the key
}

// Instance is one instance of a service, as it was when [Instances.All]
// returned it.
type Instance struct {
	Endpoint

	// Conn calls this instance and no other. Calls fail with Unavailable once
	// the instance has left, and its connection has ended.
	Conn grpc.ClientConnInterface
}

// NewInstances returns the instances of a service. It takes the options of
// [Registry.NewClient] and, like it, does no I/O. A load balancing policy in
// the service config has no effect, because calls name their instance.
func (r *Registry) NewInstances(
	desc *ServiceDesc,
	opts ...grpc.DialOption,
) (*Instances, error) {
	mine, opts := splitDialOptions(opts)
	mine.targetsOnly = true

	b, conn, err := r.newClient(desc, mine, opts)
	if err != nil {
		return nil, err
	}

	i := &Instances{builder: b, conn: conn, key: r.keys.Key(desc.Key, b.reader())}
	life, end := context.WithCancel(r.ctx)
	stop := i.key.Read(func() {}) // follows the key while the connection is idle, too
	i.life = life

	i.stop = func() {
		end()
		stop()
	}

	return i, nil
}

// Close closes the connection, which ends the calls under way. Closing twice is
// harmless.
func (i *Instances) Close() error {
	i.stop()
	_ = i.conn.Close() // fails only if conn is already closed

	return nil
}

// All returns the registered instances that [WithSelector] and [WithSubset]
// select, sorted by instance id. It leaves out instances that are no longer in
// etcd, even while calls may still go to them. All opens no connections. It
// waits until the endpoints are known, or ctx ends. If etcd refuses the read,
// the error is Unavailable, as for calls. The caller may change the slice, but
// not the maps in it, which are shared.
func (i *Instances) All(ctx context.Context) ([]Instance, error) {
	s, err := i.state(ctx)
	if err != nil {
		return nil, err
	}

	var list []Instance

	inEtcd := model.State{KeyState: s.KeyState}
	client := i.builder.client.Client
	client.Most = 0
	inEtcd.Departed = nil

	inEtcd.Endpoints = slices.DeleteFunc(slices.Clone(s.Endpoints),
		func(b *model.Backend) bool {
			_, held := s.Held[b.Endpoint.Addr]
			return held
		})

	in := inEtcd.Input(new(planner.Config), &client)
	for _, b := range planner.Make(&in).Choose() {
		e := &b.Endpoint
		list = append(list, Instance{Endpoint(*e), instanceConn{i.conn, targetOption{
			Target: calloptions.Target{
				Instance: e.Instance,
				Addr:     e.Addr,
				Sequence: s.Sequence,
			},
		}}})
	}

	return list, nil
}

// state waits until the endpoints are known, and returns the key's state.
func (i *Instances) state(ctx context.Context) (*discovery.State, error) {
	changed, stop := i.key.Changes()
	defer stop()

	for {
		select {
		case <-ctx.Done():
		case <-i.life.Done():
		case <-changed:
		}

		if err := i.ended(ctx); err != nil {
			return nil, err
		}

		switch s := i.key.State(); {
		case s.Known:
			return s, nil
		case discovery.Refused(s.Err):
			return nil, status.Error(codes.Unavailable, s.Err.Error())
		}
	}
}

// ended returns an error if i, the registry or ctx has ended, so that waiting
// for the endpoints is useless.
func (i *Instances) ended(ctx context.Context) error {
	switch {
	case i.builder.registry.ctx.Err() != nil:
		return errClosed
	case i.life.Err() != nil:
		return status.Errorf(codes.Canceled, "etcd: the instances of %q are closed",
			i.key.Full())
	case ctx.Err() != nil:
		return annotate(status.FromContextError(ctx.Err()).Err(),
			i.builder.registry.unknown(i.key))
	}

	return nil
}

// instanceConn makes calls to one instance, target, on a connection to the
// whole service.
type instanceConn struct {
	conn   *grpc.ClientConn
	target targetOption
}

func (c instanceConn) Invoke(
	ctx context.Context,
	method string,
	args, reply any,
	opts ...grpc.CallOption,
) error {
	return c.conn.Invoke(ctx, method, args, reply,
		append(opts[:len(opts):len(opts)], c.target)...)
}

func (c instanceConn) NewStream(
	ctx context.Context,
	desc *grpc.StreamDesc,
	method string,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return c.conn.NewStream(ctx, desc, method,
		append(opts[:len(opts):len(opts)], c.target)...)
}

// Each runs call once for every instance that [Instances.All] returns,
// concurrently, and waits until all the calls have returned. newClient is the
// constructor that protoc-gen-go-grpc generates:
//
//	err := runtime.Each(ctx, instances, cachepb.NewCacheClient, func(ctx context.Context, e runtime.Endpoint, c cachepb.CacheClient) error {
//		_, err := c.Flush(ctx, &cachepb.FlushRequest{})
//		return err
//	})
//
// The error joins the errors of the calls, and names the instance of each.
// Without an instance, the error is Unavailable. If a call panics, Each panics
// with the same value once all calls have returned.
func Each[C any](
	ctx context.Context,
	i *Instances,
	newClient func(grpc.ClientConnInterface) C,
	call func(context.Context, Endpoint, C) error,
) error {
	all, err := i.All(ctx)
	if err != nil {
		return err
	}

	if len(all) == 0 {
		return status.Errorf(codes.Unavailable,
			"etcd: no endpoint to call is registered under %q", i.key.Full())
	}

	errs := make([]error, len(all))
	panics := make([]any, len(all))

	var calls sync.WaitGroup
	for n, instance := range all {
		calls.Go(func() {
			defer func() { panics[n] = recover() }()

			if err := call(ctx, instance.Endpoint, newClient(instance.Conn)); err != nil {
				errs[n] = fmt.Errorf("instance %.200q at %q: %w", instance.Instance,
					instance.Addr, err)
			}
		})
	}

	calls.Wait()

	if reason := cmp.Or(panics...); reason != nil {
		panic(reason) // in the caller's goroutine, where the caller may recover
	}

	return errors.Join(errs...)
}
