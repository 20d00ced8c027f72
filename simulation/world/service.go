package world

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The services. Some servers have the newer method of the first, as in a rollout that adds it.
const (
	prefix   = "acme/" // of all keys
	shopKey  = prefix + "shop"
	shopName = "acme.Shop"
	userKey  = prefix + "user"
	userName = "acme.User"

	shopWho      = "/acme.Shop/Who"
	shopWhoNewer = "/acme.Shop/WhoNewer"
	shopLead     = "/acme.Shop/Lead" // for the leader
	userWho      = "/acme.User/Who"

	// configs is the prefix of live configs.
	configs   = "_grpc_config/"
	configKey = configs + shopKey

	// leaders is the prefix of the keys of candidates.
	leaders    = "_grpc_leader/"
	candidates = leaders + shopKey + "/" // for the shop
)

func describe(name, key, policy string) *runtime.ServiceDesc {
	return &runtime.ServiceDesc{Name: name, Key: key, LeaseTTL: ttl, ServiceConfig: policy}
}

// describeShop describes the shop, which has a method for its leader.
func describeShop(policy string) *runtime.ServiceDesc {
	desc := describe(shopName, shopKey, policy)
	desc.Leader = []string{shopLead}
	return desc
}

// answerer is an instance of a service: it says which life of which server it is.
type answerer interface {
	Who(context.Context, *emptypb.Empty) (*wrapperspb.StringValue, error)
}

type life string

func (l life) Who(context.Context, *emptypb.Empty) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(string(l)), nil
}

// shopOf is an instance of the shop.
type shopOf struct {
	life
	led func(context.Context) // is called by the method for the leader, with the call's context
}

// serviceDesc describes a service whose methods all answer with the life.
func serviceDesc(name string, methods ...string) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*answerer)(nil)}
	for _, method := range methods {
		full := "/" + name + "/" + method
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: method, Handler: handle(full)})
	}
	return desc
}

// handle returns the handler of a method.
func handle(full string) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		in := new(emptypb.Empty)
		if err := decode(in); err != nil {
			return nil, err
		}
		answer := func(ctx context.Context, in any) (any, error) {
			if shop, ok := srv.(shopOf); ok && full == shopLead {
				shop.led(ctx)
			}
			return srv.(answerer).Who(ctx, in.(*emptypb.Empty))
		}
		if intercept == nil {
			return answer(ctx, in)
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: full}, answer)
	}
}

// ask calls a method and returns which life has answered.
func ask(ctx context.Context, conn grpc.ClientConnInterface, method string) (string, error) {
	out := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, method, new(emptypb.Empty), out)
	return out.GetValue(), err
}
