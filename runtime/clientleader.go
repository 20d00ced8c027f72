package runtime

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

// refusedMin and refusedMax space the attempts of a call while the instance that seems to lead refuses it.
const (
	refusedMin = 20 * time.Millisecond
	refusedMax = 500 * time.Millisecond
)

// leaderCalls makes the calls of one connection that go to the leader of a service.
type leaderCalls struct {
	key        string              // with the namespace
	methods    map[string]struct{} // by their full names
	candidates *discovery.Candidates
}

func newLeaderCalls(key string, methods []string, candidates *discovery.Candidates) *leaderCalls {
	l := &leaderCalls{key: key, methods: make(map[string]struct{}, len(methods)), candidates: candidates}
	for _, method := range methods {
		l.methods[method] = struct{}{}
	}
	return l
}

// has reports whether a call goes to the leader. One that names its instance goes to that.
func (l *leaderCalls) has(ctx context.Context, method string) bool {
	if l == nil {
		return false
	}
	if _, ok := l.methods[method]; !ok {
		return false
	}
	return !calloptions.Of(ctx).Named
}

// forLeader returns the context and the options of a call to the leader. The call waits while the leader cannot be
// reached, and its token is the one that the policy gives: a handler that calls with the metadata of its own caller
// would send that one's too.
func forLeader(ctx context.Context, opts []grpc.CallOption) (context.Context, []grpc.CallOption) {
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md[election.TokenHeader])+len(md[election.CallHeader]) > 0 {
		delete(md, election.TokenHeader) // a copy's
		delete(md, election.CallHeader)
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	return ctx, append(opts[:len(opts):len(opts)], grpc.WaitForReady(true))
}

// call makes a unary call to the leader. An instance that does not lead, or no longer, refuses a call before its
// handler has run: then the call is made again, within its deadline and the method's timeout.
func (l *leaderCalls) call(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	ctx, opts = forLeader(ctx, opts)
	id := rand.Text()
	ctx = metadata.AppendToOutgoingContext(ctx, election.CallHeader, id)
	began, bounded := time.Now(), false
	for pause := refusedMin; ; pause = min(2*pause, refusedMax) {
		// It is of all attempts together. Before the first one of a connection gRPC may not know it yet.
		if timeout := cc.GetMethodConfig(method).Timeout; timeout != nil && !bounded {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, began.Add(*timeout))
			defer cancel()
			bounded = true
		}
		leader := l.candidates.Leader()
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

// await returns when the leader is another than the one with a token, or when it is time to try that again. It
// returns false when ctx ends.
func (l *leaderCalls) await(ctx context.Context, token int64, pause time.Duration) bool {
	changed := make(chan struct{}, 1)
	stop := l.candidates.Read(func() {
		if l.candidates.Leader().Created != token {
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

// missing describes that there was no leader, and why, where a call has failed for that; else it returns "".
func (l *leaderCalls) missing(err error) string {
	if status.Code(err) != codes.DeadlineExceeded || l.candidates.Leader().Instance != "" {
		return ""
	}
	text := fmt.Sprintf("etcd: no instance of %q leads, as far as known", l.key)
	if cause := l.candidates.Err(); cause != nil {
		text += ", for its candidates cannot be read: " + cause.Error()
	}
	return text
}
