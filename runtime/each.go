package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// Each calls call once for every endpoint of a service, all at the same time, and waits for them.
// The endpoints are those that are known when it starts: instances that come later are not called.
// call must use the context it is given, which names its endpoint, for its RPCs on conn. The error
// joins those of the calls, each naming its instance. No endpoint at all is an error, Unavailable.
//
// It is what generated EachXxxClientFromEtcd functions call. opts are as for [Registry.NewClient];
// the connections that it opens are closed when it returns.
func (r *Registry) Each(ctx context.Context, desc *ServiceDesc, call func(context.Context, Endpoint, grpc.ClientConnInterface) error, opts ...grpc.DialOption) (err error) {
	own, opts := splitDialOptions(opts)
	states := make(chan firstState, 1)
	own.targetsOnly = true
	own.observe = func(s *discovery.State, backends []*discovery.Backend) {
		select {
		case states <- firstState{s, backends}:
		default: // only the first counts
		}
	}
	conn, err := r.newClient(desc, own, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.Connect()
	backends, err := r.waitForEndpoints(ctx, desc, states)
	if err != nil {
		return err
	}
	errs := make([]error, len(backends))
	var calls sync.WaitGroup
	for i, b := range backends {
		calls.Go(func() {
			if err := call(WithTarget(ctx, b.Endpoint.Instance), Endpoint(b.Endpoint), conn); err != nil {
				errs[i] = fmt.Errorf("instance %q at %s: %w", b.Endpoint.Instance, b.Endpoint.Addr, err)
			}
		})
	}
	calls.Wait()
	return errors.Join(errs...)
}

// firstState is the first that a connection knew.
type firstState struct {
	state    *discovery.State
	backends []*discovery.Backend
}

func (r *Registry) waitForEndpoints(ctx context.Context, desc *ServiceDesc, states <-chan firstState) ([]*discovery.Backend, error) {
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("etcd has not told the endpoints of %q: %w", desc.Key, status.FromContextError(ctx.Err()).Err())
	case <-r.ctx.Done():
		return nil, errClosed
	case first := <-states:
		if !first.state.Known {
			return nil, status.Error(codes.Unavailable, first.state.Err.Error())
		}
		if len(first.backends) == 0 {
			return nil, status.Errorf(codes.Unavailable, "etcd: no endpoint to call is registered under %q", desc.Key)
		}
		return first.backends, nil
	}
}
