package runtime

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// contextOfOthers is a context whose comparison by == panics. Interceptors of
// other libraries may make such contexts.
type contextOfOthers struct {
	context.Context
	_ []any
}

// TestCarryLane checks that both interceptors pass on valid lanes and no
// others.
func TestCarryLane(t *testing.T) {
	for _, tt := range []struct {
		sent []string
		want string
	}{
		{nil, ""}, {[]string{"pr-7"}, "pr-7"}, {[]string{"red", "blue"}, "blue"}, {
			[]string{"no lane"}, ""}, {[]string{strings.Repeat("x", 129)}, ""},
	} {
		ctx := metadata.NewIncomingContext(context.Background(), metadata.MD{"etcd-lane": tt.sent})
		var unary, stream string
		_, _ = CarryLane(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
			unary, _ = Lane(ctx)
			return nil, nil
		})

		_ = CarryLaneStream(nil, serverStream{
			ctx: contextOfOthers{Context: ctx},
		}, nil, func(_ any, s grpc.ServerStream) error {
			stream, _ = Lane(s.Context())
			return nil
		})

		if unary != tt.want || stream != tt.want {
			t.Errorf(
				"lanes %.20q sent: the unary handler's lane is %q and the stream's %q, want %q",
				tt.sent, unary, stream, tt.want)
		}
	}
}

func TestSendLane(t *testing.T) {
	for _, tt := range []struct {
		lane string
		want codes.Code
	}{{"", codes.OK}, {"a/b.c:1_2-3", codes.OK}, {"a b", codes.InvalidArgument},
		{"ä", codes.InvalidArgument}, {strings.Repeat("x", 10<<10), codes.InvalidArgument}} {
		ctx, err := (&clientBuilder{
			client: new(model.Client),
		}).addressed(WithLane(context.Background(), tt.lane), false, nil)
		md, _ := metadata.FromOutgoingContext(ctx)
		if status.Code(err) != tt.want ||
			tt.want == codes.OK && strings.Join(md.Get("etcd-lane"), ",") != tt.lane {
			t.Errorf("addressed with the lane %.20q returned %v and the metadata %v, want the code %v and, for OK, the lane in the metadata",
				tt.lane, err, md, tt.want)
		}
	}
}

// TestContextOfAnotherCall makes calls with the context of a stream. gRPC
// passes that context to the stream's credentials, too.
func TestContextOfAnotherCall(t *testing.T) {
	users := &clientBuilder{service: "users", client: new(model.Client)}
	orders := &clientBuilder{service: "orders", client: new(model.Client)}
	outer, _ := users.addressed(WithLane(WithTarget(t.Context(), "u"), "pr-7"), true, nil)
	for _, tt := range []struct {
		by   *clientBuilder
		ctx  context.Context
		want string // target, lane and lane header
	}{
		{users, outer, `"u" "pr-7" ["pr-7"]`},
		{orders, outer, `"" "pr-7" ["pr-7"]`},
		{orders, WithLane(outer, "pr-8"), `"" "pr-8" ["pr-8"]`},
		{orders, WithLane(WithTarget(outer, "o"), ""), `"o" "" []`},
	} {
		ctx, _ := tt.by.addressed(tt.ctx, false, nil)
		md, _ := metadata.FromOutgoingContext(ctx)
		o := calloptions.Of(ctx, tt.by.service)

		got := fmt.Sprintf("%q %q %q", o.Target.Instance, o.Lane, md["etcd-lane"])
		if got != tt.want || o.Stream {
			t.Errorf("a call of %s has the options %s, stream: %v, want %s, false", tt.by.service,
				got, o.Stream, tt.want)
		}
	}
}
