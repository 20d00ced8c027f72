// Package kitex tests that kitex' servers and callers work together with ours.
package kitex

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
	etcd "github.com/kitex-contrib/registry-etcd"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

var user = &runtime.ServiceDesc{
	Name:   "basic.Greeter",
	Key:    "kitex/registry-etcd/user",
	Layout: runtime.Kitex,
}

// register registers an instance with kitex' registry.
func register(
	t *testing.T,
	w *world.World,
	service, addr string,
	weight int,
	tags map[string]string,
) {
	t.Helper()

	theirs, err := etcd.NewEtcdRegistry(w.Etcd.Endpoints(), func(config *etcd.Config) {
		w.Quiet(config.EtcdConfig)
	})
	world.Must(t, err)
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	world.Must(t, err)

	world.Must(t, theirs.Register(&registry.Info{
		ServiceName: service,
		Addr:        tcp,
		Weight:      weight,
		Tags:        tags,
	}))
}

// seen is an instance as kitex' resolver lists it.
type seen struct {
	Addr   string
	Weight int
	Tags   string
}

// list returns what kitex' resolver lists, with the tags that our tests use: an
// instance cannot enumerate its tags.
func list(t *testing.T, w *world.World, service string) (all []seen, err error) {
	t.Helper()

	resolver, err := etcd.NewEtcdResolver(w.Etcd.Endpoints(), func(config *etcd.Config) {
		w.Quiet(config.EtcdConfig)
	})
	if err != nil {
		return nil, err
	}

	result, err := resolver.Resolve(w.Context(), service)
	for _, i := range result.Instances {
		var tags []string
		for _, name := range []string{"k", "version", "zone", "weight"} {
			if value, ok := i.Tag(name); ok {
				tags = append(tags, name+"="+value)
			}
		}

		all = append(all, seen{i.Address().String(), i.Weight(), strings.Join(tags, " ")})
	}

	return all, err
}

func TestBothDirections(t *testing.T) {
	w := world.New(t)
	const a, b, c = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
	register(t, w, "user", a, 7, map[string]string{"k": "v", "version": "v2", "zone": "eu-1a"})
	register(t, w, "user", b, 0, nil)
	register(t, w, "user-admin", "127.0.0.1:9", 10, nil)

	ours := runtime.Endpoint{
		Instance: "host-1",
		Addr:     c,
		Version:  "v3",
		Zone:     "eu-1b",
		Weight:   5,
		Metadata: map[string]string{"k": "w"},
	}

	w.Register(user.Key, ours, runtime.Kitex)
	ours.Instance = c // kitex' keys end in the address
	world.Becomes(w, "we read", w.Watch(user.Key), ours, runtime.Endpoint{Instance: b, Addr: b},
		runtime.Endpoint{
			Instance: a,
			Addr:     a,
			Version:  "v2",
			Zone:     "eu-1a",
			Weight:   7,
			Metadata: map[string]string{"k": "v"},
		})

	world.Becomes(w, "they list", func() ([]seen, error) { return list(t, w, "user") },
		// 10 is kitex' default weight
		seen{a, 7, "k=v version=v2 zone=eu-1a"}, seen{b, 10, ""}, seen{c, 5,
			"k=w version=v3 zone=eu-1b"})
}

func TestSecondLayout(t *testing.T) {
	world.Beside(t, endpoint.Kitex, func(service string) string {
		return "kitex/registry-etcd/" + service
	}, func(w *world.World, service, addr string) string {
		all, err := list(t, w, service)
		switch {
		case err == nil && len(all) == 1 && all[0] == seen{addr, 7, "k=v version=v2"}:
			return ""
		case err == nil && len(all) == 2 && (all[0].Addr == "" || all[1].Addr == ""):
			return "adds an instance without an address"
		}

		return fmt.Sprintf("lists %v, %v", all, err)
	})
}

// greeterInfo describes the greeter as kitex' generator does. kitex uses it in
// place of a grpc.ServiceDesc.
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
