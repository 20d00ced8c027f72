package runtime

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

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// refusedMin and refusedMax bound the pause between attempts of a call that the supposed leader refuses.
const (
	refusedMin = 20 * time.Millisecond
	refusedMax = 500 * time.Millisecond
)

// leaderCalls makes the leader calls of one connection, which go to the leader of a service.
type leaderCalls struct {
	*election.Candidates
	key     string          // the service key with the namespace
	methods map[string]bool // the full names of the methods whose calls go to the leader
}

func newLeaderCalls(key string, methods []string, candidates *election.Candidates) *leaderCalls {
	l := &leaderCalls{candidates, key, make(map[string]bool, len(methods))}
	for _, method := range methods {
		l.methods[method] = true
	}
	return l
}

// Route implements [discovery.Router].
func (l *leaderCalls) Route() attr.Route {
	leader := l.Leader()
	return attr.Route{Instance: leader.Instance, Role: "leader", Header: election.TokenHeader, Value: strconv.FormatInt(leader.Created, 10)}
}

// has reports whether a call goes to the leader. A call made with [WithTarget] goes to its target instead.
func (l *leaderCalls) has(ctx context.Context, method string) bool {
	return l != nil && l.methods[method] && !calloptions.Of(ctx).Named
}

// forLeader returns the context and the options of a call to the leader, which waits while the leader cannot be reached.
// It removes a leader token and a call id from the metadata: a handler may have copied them from the call that it handles.
// The load balancing policy adds the leader's token.
func forLeader(ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md[election.TokenHeader])+len(md[election.CallHeader]) > 0 {
		delete(md, election.TokenHeader) // md is a copy
		delete(md, election.CallHeader)
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	return ctx, append(opts[:len(opts):len(opts)], grpc.WaitForReady(true))
}

// invoke makes a unary call to the leader. An instance that does not lead refuses the call before the handler runs. After
// a refusal, invoke tries again, within the call's deadline and the method's timeout.
func (l *leaderCalls) invoke(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	ctx, opts = forLeader(ctx, opts)
	id := rand.Text()
	ctx = metadata.AppendToOutgoingContext(ctx, election.CallHeader, id)
	began, bounded := time.Now(), false
	for pause := refusedMin; ; pause = min(2*pause, refusedMax) {
		// The method's timeout covers all attempts together. gRPC may not know the timeout before a connection's first attempt.
		if timeout := cc.GetMethodConfig(method).Timeout; timeout != nil && !bounded {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, began.Add(*timeout))
			defer cancel()
			bounded = true
		}
		leader := l.Leader()
		var trailer metadata.MD
		err := invoker(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Trailer(&trailer))...)
		if err == nil || !slices.Contains(trailer.Get(election.RefusedTrailer), id) {
			return err
		}
		if !l.await(ctx, leader.Created, pause) {
			return annotate(status.FromContextError(ctx.Err()).Err(), status.Convert(err).Message())
		}
	}
}

// await waits until the leader's token differs from token, or until pause has passed. It returns false if ctx has ended.
func (l *leaderCalls) await(ctx context.Context, token int64, pause time.Duration) bool {
	changed := make(chan struct{}, 1)
	stop := l.Read(func() {
		if l.Leader().Created != token {
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

// missing returns a message if err may have occurred because no instance led, and "" otherwise.
func (l *leaderCalls) missing(err error) string {
	if status.Code(err) != codes.DeadlineExceeded || l.Leader().Instance != "" {
		return ""
	}
	text := fmt.Sprintf("etcd: no leader of %q is known", l.key)
	if cause := l.Err(); cause != nil {
		text += ": its candidates cannot be read: " + cause.Error()
	}
	return text
}

// annotate appends a reason to the message of an RPC error, and keeps the error's code.
func annotate(err error, reason string) error {
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%w: %s", err, reason)
	}
	p := s.Proto()
	p.Message += ": " + reason
	return status.ErrorProto(p)
}
