package kitex

import (
	"context"

	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// greeterInfo describes the greeter as kitex' generator does. It replaces a grpc.ServiceDesc.
var greeterInfo = &serviceinfo.ServiceInfo{
	ServiceName: "Greeter",
	HandlerType: (*basic.GreeterServer)(nil),
	Methods: map[string]serviceinfo.MethodInfo{
		"SayHello": serviceinfo.NewMethodInfo(sayHello,
			func() any { return new(sayHelloArgs) }, func() any { return new(sayHelloResult) },
			false, serviceinfo.WithStreamingMode(serviceinfo.StreamingUnary)),
	},
	PayloadCodec: serviceinfo.Protobuf,
	Extra:        map[string]any{"PackageName": "basic"},
}

func sayHello(ctx context.Context, handler, args, _ any) error {
	stream := args.(*streaming.Args).Stream
	request := new(basic.HelloRequest)
	if err := stream.RecvMsg(request); err != nil {
		return err
	}
	reply, err := handler.(basic.GreeterServer).SayHello(ctx, request)
	if err != nil {
		return err
	}
	return stream.SendMsg(reply)
}

type sayHelloArgs struct{ Req *basic.HelloRequest }

func (a *sayHelloArgs) Marshal(out []byte) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(out, a.Req)
}

func (a *sayHelloArgs) Unmarshal(in []byte) error {
	a.Req = new(basic.HelloRequest)
	return proto.Unmarshal(in, a.Req)
}

type sayHelloResult struct{ Success *basic.HelloReply }

func (r *sayHelloResult) Marshal(out []byte) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(out, r.Success)
}

func (r *sayHelloResult) Unmarshal(in []byte) error {
	r.Success = new(basic.HelloReply)
	return proto.Unmarshal(in, r.Success)
}
