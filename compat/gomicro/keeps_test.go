package gomicro

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	merrors "go-micro.dev/v4/errors"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// failures are what a caller can ask for.
var failures = map[string]func() error{
	"an error of go-micro's":            func() error { return merrors.NotFound("user", "no user %d", 7) },
	"one with a code that is no status": func() error { return merrors.New("user", "out of stock", 422) },
	"a plain error":                     func() error { return errors.New("plain") },
	"a panic":                           func() error { panic("a bug") },
}

// withDetails is an error that a server of go-micro's cannot return.
func withDetails() error {
	s, err := status.New(codes.FailedPrecondition, "closed").WithDetails(&basic.HelloReply{Message: "until nine"})
	if err != nil {
		return err
	}
	return s.Err()
}

// greeter is the same implementation for a gRPC server.
type greeter struct {
	basic.UnimplementedGreeterServer
	micro *Greeter
}

func (g greeter) SayHello(ctx context.Context, request *basic.HelloRequest) (*basic.HelloReply, error) {
	if request.GetName() == "a status with details" {
		return nil, withDetails()
	}
	reply := new(basic.HelloReply)
	return reply, g.micro.SayHello(ctx, request, reply)
}

// newServer returns a server of ours that does what go-micro's did, in the lines of docs/migration.md.
func newServer(registry *runtime.Registry, impl basic.GreeterServer) *runtime.Server {
	server := registry.NewServer(grpc.NewServer(grpc.ChainUnaryInterceptor(asMicro)))
	cure(server, impl)
	return server
}

// cure has a server answer go-micro's callers, too, in the lines of docs/migration.md.
func cure(server *runtime.Server, impl basic.GreeterServer) {
	old := basic.Greeter_ServiceDesc
	old.ServiceName = "user.Greeter" // go-micro's callers call /user.Greeter/SayHello
	server.RegisterService(&old, impl)
}

// asMicro does with errors and panics what go-micro's server did, in the lines of docs/migration.md.
func asMicro(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = merrors.InternalServerError("go.micro.server", "panic recovered: %v", v)
		}
		if e, ok := merrors.As(err); ok {
			err = status.Error(cmp.Or(microCodes[e.Code], codes.Unknown), e.Error())
		}
		if s := status.Convert(err); len(s.Details()) > 0 {
			err = status.Error(s.Code(), s.Message()) // over details, go-micro's callers panic
		}
	}()
	return handler(ctx, req)
}

var microCodes = map[int32]codes.Code{
	400: codes.InvalidArgument, 401: codes.Unauthenticated, 403: codes.PermissionDenied, 404: codes.NotFound,
	408: codes.DeadlineExceeded, 409: codes.AlreadyExists, 412: codes.FailedPrecondition, 500: codes.Internal,
	501: codes.Unimplemented, 503: codes.Unavailable,
}

// microErrors gives a caller of ours go-micro's errors, in the lines of docs/migration.md.
func microErrors(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	if e := merrors.Parse(status.Convert(err).Message()); e.Code > 0 {
		return e
	}
	return err
}

// sayHello returns a function that calls by a connection of ours.
func sayHello(conn grpc.ClientConnInterface) func(ctx context.Context, name string) (string, error) {
	return func(ctx context.Context, name string) (string, error) {
		reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{Name: name})
		return reply.GetMessage(), err
	}
}

// answers returns what a caller sees of each failure.
func answers(w *world.World, sayHello func(ctx context.Context, name string) (string, error)) map[string]string {
	seen := make(map[string]string, len(failures))
	for name := range failures {
		reply, err := sayHello(w.Context(), name)
		seen[name] = fmt.Sprintf("%s: status %v, %v", reply, status.Code(err), err)
	}
	return seen
}

// What go-micro's server did with errors and panics stays as it was, for callers of either kind.
func TestKeeps(t *testing.T) {
	w := world.New(t)
	process := w.Start("server", w.EtcdAddr(), "theirs")
	w.Eventually(process.Output, func() bool { return len(w.Entries(user.Key)) == 1 })
	old := newCaller(theirs(w))
	want := map[string]map[string]string{"go-micro's": answers(w, old.sayHello)}
	w.Watched(user.Key + "/") // until then a caller of go-micro's learns of no change for a minute
	callers := map[string]func(context.Context, string) (string, error){
		"go-micro's":                  old.sayHello,
		"ours":                        sayHello(w.Conn(user)),
		"ours with go-micro's errors": sayHello(w.Conn(user, grpc.WithChainUnaryInterceptor(microErrors))),
	}
	for name, caller := range callers {
		want[name] = answers(w, caller)
	}
	_, err := w.Etcd.Admin().Delete(w.Context(), user.Key+"/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	impl := greeter{micro: &Greeter{"ours"}}
	w.PublishOn(newServer(w.NewRegistry(), impl), impl, user)
	for name, caller := range callers {
		w.Eventually(func() string { return name }, func() bool {
			answer, err := caller(w.Context(), "")
			return err == nil && answer == "ours"
		})
		for failure, got := range answers(w, caller) {
			if got != want[name][failure] {
				t.Errorf("%s: %s: %q, want %q", name, failure, got, want[name][failure])
			}
		}
	}
}

// slow times out twice, and then answers.
type slow struct {
	basic.UnimplementedGreeterServer
	calls atomic.Int32
}

func (s *slow) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	if s.calls.Add(1)%3 != 0 {
		return nil, merrors.Timeout("user", "the database")
	}
	deadline, ok := ctx.Deadline()
	return &basic.HelloReply{Message: fmt.Sprintf("%v, %v", ok, time.Until(deadline).Round(10*time.Second))}, nil
}

// go-micro's client ends calls after 30 s, and repeats those that answer 408. The options that docs/migration.md has do so, too.
func TestTimeoutAndRetriesAreKept(t *testing.T) {
	w := world.New(t)
	desc := *user
	desc.ServiceConfig = `{"methodConfig":[{"name":[{"service":"basic.Greeter"}],"timeout":"30s","retryPolicy":{"maxAttempts":5,` +
		`"initialBackoff":"0.1s","maxBackoff":"10s","backoffMultiplier":2,"retryableStatusCodes":["DEADLINE_EXCEEDED"]}}]}`
	impl := &slow{}
	w.PublishOn(newServer(w.NewRegistry(), impl), impl, &desc)
	for name, call := range map[string]func(context.Context, string) (string, error){
		"go-micro's": newCaller(theirs(w)).sayHello, "ours": sayHello(w.Conn(&desc)),
	} {
		before := impl.calls.Load()
		answer, err := call(context.Background(), "")
		if calls := impl.calls.Load() - before; err != nil || calls != 3 || answer != "true, 30s" {
			t.Errorf("%s: after %d calls %q, %v", name, calls, answer, err)
		}
	}
}
