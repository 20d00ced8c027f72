package generator

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestJSONLayout_OneWord says that the plugin refuses what runtime.JSONLayout refuses, in the same words, and nothing else: each field
// is left out, has a name of its own, that of another field, or one that is odd.
func TestJSONLayout_OneWord(t *testing.T) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	registry := runtime.NewRegistry(client)
	defer func() {
		if err := registry.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	layouts := jsonLayouts()
	refused := 0
	for _, l := range layouts {
		got := generate(t, jsonLayoutRequest(l)).GetError()
		_, err := registry.NewClient(&runtime.ServiceDesc{Name: "demo.Demo", Key: "demo", Layout: runtime.JSONLayout(runtime.JSONFields{
			Addr: l.GetAddr(), Host: l.GetHost(), Port: l.GetPort(), Instance: l.GetInstance(), Version: l.GetVersion(),
			Zone: l.GetZone(), Weight: l.GetWeight(), Metadata: l.GetMetadata(), Name: l.GetName(),
		})}, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if (err == nil) != (got == "") {
			t.Errorf("%v: the plugin says %q, the runtime %v", l, got, err)
			continue
		}
		if err == nil {
			continue
		}
		refused++
		_, why, ok := strings.Cut(got, "json_layout ")
		if !ok || !strings.HasSuffix(err.Error(), why) {
			t.Errorf("%v: the plugin says %q, the runtime %q", l, got, err)
		}
	}
	t.Logf("%d of %d are refused", refused, len(layouts))
	if accepted := len(layouts) - refused; refused < 200 || accepted < 200 {
		t.Error("that is too few or too many to compare")
	}
}

// jsonLayouts are those with each way to say where the address is, and each name in each field.
func jsonLayouts() (all []*discoveryv1.JSONLayout) {
	addresses := []func(*discoveryv1.JSONLayout){
		func(*discoveryv1.JSONLayout) {},
		func(l *discoveryv1.JSONLayout) { l.Addr = "addr" },
		func(l *discoveryv1.JSONLayout) { l.Host = "host" },
		func(l *discoveryv1.JSONLayout) { l.Port = "port" },
		func(l *discoveryv1.JSONLayout) { l.Host, l.Port = "host", "port" },
		func(l *discoveryv1.JSONLayout) { l.Addr, l.Port = "addr", "port" },
		func(l *discoveryv1.JSONLayout) { l.Host, l.Port = "addr", "addr" },
	}
	names := []string{"", "own", "addr", "host", "port", "Addr", "a.b", "a[0]", " ", `"`, "\\", "\u2028", "\u202e", "\x00", "адрес", "😀",
		strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("é", 32), strings.Repeat("é", 33)}
	fields := new(discoveryv1.JSONLayout).ProtoReflect().Descriptor().Fields()
	for _, address := range addresses {
		for i := range fields.Len() {
			for _, name := range names {
				l := new(discoveryv1.JSONLayout)
				address(l)
				if set := l.ProtoReflect(); set.Get(fields.Get(i)).String() == "" {
					set.Set(fields.Get(i), protoreflect.ValueOfString(name))
				}
				all = append(all, l)
			}
		}
	}
	return all
}

// jsonLayoutRequest asks for the code of one service.
func jsonLayoutRequest(l *discoveryv1.JSONLayout) *pluginpb.CodeGeneratorRequest {
	options := new(descriptorpb.ServiceOptions)
	proto.SetExtension(options, discoveryv1.E_Service, &discoveryv1.ServiceOptions{Key: "demo", JsonLayout: l})
	return &pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{"demo.proto"},
		ProtoFile: []*descriptorpb.FileDescriptorProto{{
			Name: proto.String("demo.proto"), Package: proto.String("demo"), Syntax: proto.String("proto3"),
			Options: &descriptorpb.FileOptions{GoPackage: proto.String("example.com/demo")},
			Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Demo"), Options: options}},
		}},
	}
}
