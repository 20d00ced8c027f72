// Package acme holds the services of simulated worlds: their keys and methods, code to serve and call them, and the meaning of
// their entries and configs in each layout.
package acme

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// The services. Some servers have the newer method of the first, as in a rollout that adds it.
const (
	Prefix   = "acme/" // of all keys
	ShopKey  = Prefix + "shop"
	ShopName = "acme.Shop"
	UserKey  = Prefix + "user"
	UserName = "acme.User"

	Who      = "/acme.Shop/Who"
	WhoNewer = "/acme.Shop/WhoNewer"
	Lead     = "/acme.Shop/Lead" // for the leader
	UserWho  = "/acme.User/Who"

	// Configs is the prefix of live configs.
	Configs   = "_grpc_config/"
	ConfigKey = Configs + ShopKey

	// Leaders is the prefix of the keys of candidates.
	Leaders    = "_grpc_leader/"
	Candidates = Leaders + ShopKey + "/" // for the shop
)

// Shop describes the shop, which has a method for its leader.
func Shop(policy string) *runtime.ServiceDesc {
	return &runtime.ServiceDesc{Name: ShopName, Key: ShopKey, LeaseTTL: schedule.ShortTTL, ServiceConfig: policy, Leader: []string{Lead}}
}

// User describes the second service.
func User() *runtime.ServiceDesc {
	return &runtime.ServiceDesc{Name: UserName, Key: UserKey, LeaseTTL: schedule.ShortTTL}
}

// Instance is an instance of a service: each of its methods answers with its name.
type Instance struct {
	Name string
	Led  func(context.Context) // is called by the method for the leader, with the call's context
}

// Register registers an instance of a service with methods.
func (i Instance) Register(to grpc.ServiceRegistrar, service string, methods ...string) {
	desc := &grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil)}
	for _, method := range methods {
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: method, Handler: i.handler("/" + service + "/" + method)})
	}
	to.RegisterService(desc, i)
}

func (i Instance) handler(full string) grpc.MethodHandler {
	answer := func(ctx context.Context, _ any) (any, error) { //nolint:unparam // as gRPC's interceptors want it
		if full == Lead {
			i.Led(ctx)
		}
		return wrapperspb.String(i.Name), nil
	}
	return func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		in := new(emptypb.Empty)
		if err := decode(in); err != nil {
			return nil, err
		}
		if intercept == nil {
			return answer(ctx, in)
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: full}, answer)
	}
}

// Ask calls a method and returns the name of the instance that answered.
func Ask(ctx context.Context, conn grpc.ClientConnInterface, method string) (string, error) {
	out := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, method, new(emptypb.Empty), out)
	return out.GetValue(), err
}

// Addrs returns the addresses of endpoints, sorted.
func Addrs(endpoints []runtime.Endpoint) []string {
	var addrs []string
	for _, ep := range endpoints {
		addrs = append(addrs, ep.Addr)
	}
	slices.Sort(addrs)
	return addrs
}
