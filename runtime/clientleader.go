package runtime

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/balancer"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// refusedMin and refusedMax space the attempts of a call while the instance that seems to lead refuses it.
const (
	refusedMin = 20 * time.Millisecond
	refusedMax = 500 * time.Millisecond
)

// isForLeader reports whether a call goes to the leader. One that names its instance goes to that.
func (b *clientBuilder) isForLeader(ctx context.Context, method string) bool {
	if _, ok := b.client.LeaderMethods[method]; !ok {
		return false
	}
	_, named := balancer.Target(ctx)
	return !named
}

// forLeader returns the context and the options of a call to the leader. The call waits while the leader cannot be
// reached, and its token is the one that the policy gives: a handler that calls with the metadata of its own caller
// would send that one's too.
func forLeader(ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md[election.TokenHeader]) > 0 {
		delete(md, election.TokenHeader) // a copy's
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	return ctx, append(opts[:len(opts):len(opts)], grpc.WaitForReady(true))
}

// callLeader makes a unary call to the leader. An instance that does not lead, or no longer, refuses a call before its
// handler has run: then the call is made again, within its deadline and the method's timeout.
func (b *clientBuilder) callLeader(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	ctx, opts = forLeader(ctx, opts)
	if timeout := cc.GetMethodConfig(method).Timeout; timeout != nil { // of all attempts together
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *timeout)
		defer cancel()
	}
	for pause := refusedMin; ; pause = min(2*pause, refusedMax) {
		leader := b.candidates.Leader()
		var trailer metadata.MD
		err := invoker(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Trailer(&trailer))...)
		if err == nil || len(trailer.Get(election.RefusedTrailer)) == 0 {
			return err
		}
		if !b.awaitLeader(ctx, leader.Created, pause) {
			return annotate(status.FromContextError(ctx.Err()).Err(), status.Convert(err).Message())
		}
	}
}

// awaitLeader returns when the leader is another than the one with a token, or when it is time to try that again. It
// returns false when ctx ends.
func (b *clientBuilder) awaitLeader(ctx context.Context, token int64, pause time.Duration) bool {
	changed := make(chan struct{}, 1)
	stop := b.candidates.Read(func() {
		if b.candidates.Leader().Created != token {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	})
	defer stop()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// explainLeader is explain for a call to the leader. It adds that there was none.
func (b *clientBuilder) explainLeader(err error) error {
	if status.Code(err) != codes.DeadlineExceeded || b.candidates.Leader().Instance != "" {
		return b.explain(err)
	}
	text := fmt.Sprintf("etcd: no instance of %q leads, as far as known", b.desc.Key)
	if cause := b.candidates.Err(); cause != nil {
		text += ", for its candidates cannot be read: " + cause.Error()
	}
	return annotate(b.explain(err), text)
}
