package leader

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader/internal/election"
)

// router makes the leader calls of one connection.
type router struct {
	*election.Candidates
	key     string          // the service key with the namespace
	methods map[string]bool // the full names of the methods whose calls go to the leader
}

func (m Methods) route(h *extension.Host, key string) extension.Routing {
	r := &router{
		election.CandidatesOf(h, key),
		h.Keys.Full(key),
		make(map[string]bool, len(m)),
	}
	for _, method := range m {
		r.methods[method] = true
	}

	return extension.Routing{Router: r, Methods: r.methods, Options: []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(r.unary),
		grpc.WithChainStreamInterceptor(r.stream),
	}}
}

// Route implements [discovery.Router].
func (r *router) Route() model.Route {
	leader := r.Leader()

	return model.Route{
		Instance: leader.Instance,
		Role:     "leader",
		Header:   TokenHeader,
		Value:    strconv.FormatInt(leader.Created, 10),
	}
}

// unary intercepts the unary calls of the connection, and stream intercepts the
// streaming calls.
func (r *router) unary(
	ctx context.Context,
	method string,
	req, reply any,
	cc *grpc.ClientConn,
	invoker grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	if !r.has(ctx, method) {
		return invoker(ctx, method, req, reply, cc, opts...)
	}

	return r.explain(r.invoke(ctx, method, req, reply, cc, invoker, opts))
}

func (r *router) stream(
	ctx context.Context,
	desc *grpc.StreamDesc,
	cc *grpc.ClientConn,
	method string,
	streamer grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if !r.has(ctx, method) {
		return streamer(ctx, desc, cc, method, opts...)
	}

	ctx, _, opts = forLeader(ctx, opts)
	stream, err := streamer(ctx, desc, cc, method, opts...)

	return stream, r.explain(err)
}

// has reports whether a call goes to the leader. A call made with
// [runtime.WithTarget] goes to its target instead.
func (r *router) has(ctx context.Context, method string) bool {
	return r.methods[method] && !calloptions.Of(ctx, r.key).Named
}

// forLeader returns the context and the options of a call to the leader. The call
// waits while the leader cannot be reached. forLeader adds an id to the call's
// metadata, and removes a leader token and an id that a handler has copied from
// the call that it handles. The load balancing policy adds the leader's token.
func forLeader(
	ctx context.Context,
	opts []grpc.CallOption,
) (_ context.Context, id string, _ []grpc.CallOption) {
	id = rand.Text()
	ctx = calloptions.WithHeader(calloptions.WithHeader(ctx, TokenHeader, ""),
		callHeader, id)

	return ctx, id, append(opts[:len(opts):len(opts)], grpc.WaitForReady(true))
}

// invoke makes a unary call to the leader. An instance that does not lead
// refuses the call before the handler runs. After a refusal, invoke tries
// again, within the call's deadline and the method's timeout.
func (r *router) invoke(
	ctx context.Context,
	method string,
	req, reply any,
	cc *grpc.ClientConn,
	invoker grpc.UnaryInvoker,
	opts []grpc.CallOption,
) (err error) {
	ctx, id, opts := forLeader(ctx, opts)
	var finish []func(error)

	// gRPC would call it after each attempt
	opts = slices.DeleteFunc(opts, func(o grpc.CallOption) bool {
		f, is := o.(grpc.OnFinishCallOption)
		if is {
			finish = append(finish, f.OnFinish)
		}

		return is
	})

	defer func() {
		for _, f := range finish {
			f(err)
		}
	}()

	began := time.Now()

	bounded := false
	for pause := time.Duration(0); ; {
		// The method's timeout covers all attempts together. gRPC may not know
		// the timeout before a connection's first attempt.
		if timeout := cc.GetMethodConfig(method).Timeout; timeout != nil && !bounded {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, began.Add(*timeout))
			defer cancel()

			bounded = true
		}

		// no leader admits this call while the one that runs its caller resigns
		election.Exit(ctx, r.Prefix)
		leader := r.Leader()
		var trailer metadata.MD

		err = invoker(ctx, method, req, reply, cc,
			append(opts[:len(opts):len(opts)], grpc.Trailer(&trailer))...)
		if err == nil || !slices.Contains(trailer.Get(refusedTrailer), id) {
			return err
		}

		pause = r.Await(ctx, leader.Created, pause)

		if ctx.Err() != nil {
			ended := status.FromContextError(ctx.Err())
			return status.Errorf(ended.Code(), "%s: %s", ended.Message(),
				status.Convert(err).Message())
		}
	}
}

// explain completes the error of a leader call: it adds that no leader is known,
// if that may be why the call failed. err may be nil.
func (r *router) explain(err error) error {
	if status.Code(err) != codes.DeadlineExceeded || r.Leader().Instance != "" {
		return err
	}

	text := fmt.Sprintf("etcd: no leader of %q is known", r.key)
	if cause := r.Err(); cause != nil {
		text += ": its candidates cannot be read: " + cause.Error()
	}

	p := status.Convert(err).Proto()
	p.Message += ": " + text

	return status.ErrorProto(p)
}
