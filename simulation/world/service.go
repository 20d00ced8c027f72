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
	userWho      = "/acme.User/Who"

	// configs is the prefix of live configs.
	configs   = "_grpc_config/"
	configKey = configs + shopKey
)

func describe(name, key, policy string) *runtime.ServiceDesc {
	return &runtime.ServiceDesc{Name: name, Key: key, LeaseTTL: ttl, ServiceConfig: policy}
}

// answerer is an instance of a service: it says which life of which server it is.
type answerer interface {
	Who(context.Context, *emptypb.Empty) (*wrapperspb.StringValue, error)
}

type life string

func (l life) Who(context.Context, *emptypb.Empty) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(string(l)), nil
}

// serviceDesc describes a service whose methods all answer with the life.
func serviceDesc(name string, methods ...string) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*answerer)(nil)}
	for _, method := range methods {
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: method, Handler: handle})
	}
	return desc
}

func handle(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // the signature is gRPC's
	in := new(emptypb.Empty)
	if err := decode(in); err != nil {
		return nil, err
	}
	return srv.(answerer).Who(ctx, in)
}

// ask calls a method and returns which life has answered.
func ask(ctx context.Context, conn grpc.ClientConnInterface, method string) (string, error) {
	out := new(wrapperspb.StringValue)
	err := conn.Invoke(ctx, method, new(emptypb.Empty), out)
	return out.GetValue(), err
}
