package main

import (
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/invoke"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// echoProto has what takes more than the type of a method to be read. A server that echoes makes a Box of a Sealed.
const echoProto = `syntax = "proto2";
package echo;
import "google/protobuf/any.proto";
message Base {
  required string id = 1;
  extensions 100 to 200;
}
extend Base {
  optional string note = 100;
  optional Base more = 101;
}
message Box {
  repeated google.protobuf.Any what = 1;
}
message Sealed {
  message Any {
    optional string type_url = 1;
    optional bytes value = 2;
  }
  repeated Any what = 1;
  optional string secret = 2;
}
service Echo {
  rpc Same(Base) returns (Base);
  rpc Pack(Box) returns (Box);
  rpc Seal(Sealed) returns (Box);
}
`

// TestCall_Types has responses shown that take extensions, and types that nobody knows.
func TestCall_Types(t *testing.T) {
	t.Parallel()
	dir := filepath.Dir(tempFile(t, "echo.proto", []byte(echoProto)))
	schema, err := invoke.CompileProtos(t.Context(), []string{"echo.proto"}, []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	etcd, addr := etcdtest.Start(t), serveUntilEnd(t, newEchoServer(t, schema))
	raw, err := proto.Marshal(unknownAny)
	if err != nil {
		t.Fatal(err)
	}
	sealed := base64.StdEncoding.EncodeToString(raw)
	const unknown = `{"@type":"type.googleapis.com/secret.Type","value":"CAE="}`
	for name, tt := range map[string]struct{ method, data, want string }{
		"an extension":             {"Same", `{"id":"x","[echo.note]":"hi"}`, ""},
		"an extension in another":  {"Same", `{"id":"x","[echo.more]":{"id":"y","[echo.note]":"deep"}}`, ""},
		"an Any":                   {"Pack", `{"what":[{"@type":"type.googleapis.com/echo.Base","id":"x","[echo.note]":"hi"}]}`, ""},
		"an Any that nobody knows": {"Seal", `{"what":[{"type_url":"type.googleapis.com/secret.Type","value":"CAE="}]}`, `{"what":[` + unknown + `]}`},
		"one in another": {"Seal", `{"what":[{"type_url":"type.googleapis.com/google.protobuf.Any","value":"` + sealed + `"}]}`,
			`{"what":[{"@type":"type.googleapis.com/google.protobuf.Any","value":` + unknown + `}]}`},
		"a field that nobody knows": {"Seal", `{"secret":"x"}`, `{}`},
	} {
		for source, args := range map[string][]string{"reflected": nil, "given": {"--proto", "echo.proto", "--import-path", dir}} {
			t.Run(name+", "+source, func(t *testing.T) {
				out, errs, code := callAt(t, etcd, addr, append([]string{tt.method, "-o", "json", "-d", tt.data}, args...)...)
				want := tt.want
				if want == "" {
					want = tt.data
				}
				if code != exitFine || strings.TrimSpace(out) != want {
					t.Errorf("it ends with %d: %s%s, want %s", code, out, errs, want)
				}
			})
		}
	}
}

// unknownAny is of a type that nobody knows.
var unknownAny = &anypb.Any{TypeUrl: "type.googleapis.com/secret.Type", Value: []byte{8, 1}}

// TestCall_UnknownDetail shows the detail of an error that comes before any type is known.
func TestCall_UnknownDetail(t *testing.T) {
	t.Parallel()
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		return status.ErrorProto(&spb.Status{Code: int32(codes.PermissionDenied), Message: "no", Details: []*anypb.Any{unknownAny}})
	}))
	_, errs, code := callAt(t, etcdtest.Start(t), serveUntilEnd(t, server), "Users/Get", "-o", "json")
	if code != exitWrong || !strings.Contains(errs, "PermissionDenied: no\n") || !strings.Contains(errs, `"value": "CAE="`) {
		t.Errorf("it ends with %d and says %s", code, errs)
	}
}

// TestCall_Edition2024 calls by descriptors what cannot be compiled yet.
func TestCall_Edition2024(t *testing.T) {
	t.Parallel()
	source := tempFile(t, "echo.proto", []byte(`edition = "2024"; package echo; message M {} service Echo { rpc Same(M) returns (M); }`))
	var described descriptorpb.FileDescriptorSet
	if err := prototext.Unmarshal([]byte(`file {
		name: "echo.proto" package: "echo" syntax: "editions" edition: EDITION_2024
		message_type { name: "M" field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
		service { name: "Echo" method { name: "Same" input_type: ".echo.M" output_type: ".echo.M" } }
	}`), &described); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(&described)
	if err != nil {
		t.Fatal(err)
	}
	set := tempFile(t, "echo.binpb", raw)
	schema, err := (&invoke.Descriptors{Protosets: []string{set}}).Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	etcd, addr := etcdtest.Start(t), serveUntilEnd(t, newEchoServer(t, schema))
	for _, args := range [][]string{nil, {"--protoset", set}, {"--protoset", set, "--protoset", set}} { // files may be there twice
		if out, errs, code := callAt(t, etcd, addr, append(args, "Same", "-o", "json", "-d", `{"id":"x"}`)...); code != exitFine || out != "{\"id\":\"x\"}\n" {
			t.Errorf("%q ends with %d: %s%s", args, code, out, errs)
		}
	}
	described.File[0].Options = &descriptorpb.FileOptions{Deprecated: proto.Bool(true)}
	if raw, err = proto.Marshal(&described); err != nil {
		t.Fatal(err)
	}
	_, errs, code := callAt(t, etcd, addr, "Same", "--protoset", set, "--protoset", tempFile(t, "other.binpb", raw))
	if code != exitWrong || !strings.Contains(errs, "echo.proto is described in two ways") {
		t.Errorf("it ends with %d and says %s", code, errs)
	}
	_, errs, code = callAt(t, etcd, addr, "Same", "--proto", "echo.proto", "--import-path", filepath.Dir(source))
	if code != exitWrong || !strings.Contains(errs, `"2024"`) || !strings.Contains(errs, "give it by --protoset") {
		t.Errorf("it ends with %d and says %s", code, errs)
	}
}

// newEchoServer returns a server that sends back what it gets, and describes it.
func newEchoServer(t *testing.T, schema *invoke.Schema) *grpc.Server {
	t.Helper()
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var whatever emptypb.Empty // keeps what it does not know
		if err := stream.RecvMsg(&whatever); err != nil {
			return err
		}
		return stream.SendMsg(&whatever)
	}))
	file, err := schema.Resolver.FindFileByPath("echo.proto")
	if err != nil {
		t.Fatal(err)
	}
	var extensions protoregistry.Types
	for i := range file.Extensions().Len() {
		if err := extensions.RegisterExtension(dynamicpb.NewExtensionType(file.Extensions().Get(i))); err != nil {
			t.Fatal(err)
		}
	}
	refv1.RegisterServerReflectionServer(server, reflection.NewServerV1(reflection.ServerOptions{
		Services: services(schema.Services), DescriptorResolver: schema.Resolver, ExtensionResolver: &extensions,
	}))
	return server
}

// services are those that a reflection lists.
type services []protoreflect.FullName

func (s services) GetServiceInfo() map[string]grpc.ServiceInfo {
	info := make(map[string]grpc.ServiceInfo)
	for _, name := range s {
		info[string(name)] = grpc.ServiceInfo{}
	}
	return info
}
