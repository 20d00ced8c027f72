package generator

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// TestFeatures checks that the plugin supports the same features and editions as protoc-gen-go.
func TestFeatures(t *testing.T) {
	got, want := generate(t, new(pluginpb.CodeGeneratorRequest)), answer(t, "protoc-gen-go", new(pluginpb.CodeGeneratorRequest))
	if got.GetSupportedFeatures() != want.GetSupportedFeatures() {
		t.Errorf("features %b, want %b as protoc-gen-go has", got.GetSupportedFeatures(), want.GetSupportedFeatures())
	}
	if got.GetMinimumEdition() != want.GetMinimumEdition() || got.GetMaximumEdition() != want.GetMaximumEdition() {
		t.Errorf("editions %d to %d, want %d to %d as protoc-gen-go has",
			got.GetMinimumEdition(), got.GetMaximumEdition(), want.GetMinimumEdition(), want.GetMaximumEdition())
	}
}

// TestImportOption checks that the plugin reads the options of a request without options.proto, which buf
// leaves out after an import option of edition 2024. The golden files come from requests with it, as protoc's are.
func TestImportOption(t *testing.T) {
	files := sources{}
	files.readDir(t, dataDir+"/edition2024", "edition2024")
	request := files.compile(t, everyField, "paths=source_relative")
	request.ProtoFile = slices.DeleteFunc(request.ProtoFile, func(file *descriptorpb.FileDescriptorProto) bool {
		return file.GetName() == optionsProto
	})
	if _, ok := generated(t, request)["edition2024/service_etcd.pb.go"]; !ok {
		t.Error("no file service_etcd.pb.go for a request without options.proto, want one")
	}
}

// TestOptionsAreDescribed compares the message LoadBalancing with serviceconfig.Options and serviceconfig.Picking. Each field
// has an option or chooses a policy. Options without a field are LiveOnly.
func TestOptionsAreDescribed(t *testing.T) {
	fields := new(discoveryv1.LoadBalancing).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		isPolicy := slices.ContainsFunc(serviceconfig.Picking, func(p serviceconfig.PolicyRule) bool { return p.Proto == string(field.Name()) })
		if o := serviceconfig.OptionNamed(field.JSONName()); o == nil && !isPolicy && field.Name() != "outlier_detection" || isPolicy != (field.ContainingOneof() != nil) {
			t.Errorf("field %s of LoadBalancing is neither in serviceconfig.Options nor in serviceconfig.Picking", field.Name())
		}
	}
	for _, o := range serviceconfig.Options {
		if field := fields.ByJSONName(o.Name); o.LiveOnly != (field == nil) {
			t.Errorf("option %s: LoadBalancing has the field %v, want one unless LiveOnly (%v)", o.Name, field, o.LiveOnly)
		}
	}
}

// TestDependencies checks that only the generated code of services with outlier detection links gRPC's xDS
// support, which is large.
func TestDependencies(t *testing.T) {
	const user = "outlier"
	others := slices.DeleteFunc(cases(t), func(name string) bool { return name == user })
	if !linksXDS(t, user) {
		t.Errorf("case %s does not link xDS support, want it linked", user)
	}
	if linksXDS(t, others...) {
		t.Errorf("one of %v links xDS support, want none to", others)
	}
}

// linksXDS reports whether the code of any of these cases links xDS support.
func linksXDS(t *testing.T, cases ...string) bool {
	t.Helper()
	args := []string{"list", "-deps"}
	for _, name := range cases {
		args = append(args, dataPackage+"/"+name)
	}
	output, err := exec.CommandContext(t.Context(), "go", args...).Output()
	kit.Must(t, err)
	return slices.Contains(strings.Fields(string(output)), "google.golang.org/grpc/xds")
}

// plainProgram calls and serves a service without options beyond the key.
const plainProgram = `package main

import (
	"context"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func main() {
	registry := runtime.NewRegistry(nil)
	_, _ = basic.NewGreeterClientFromEtcd(registry)
	server := registry.NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(server, basic.UnimplementedGreeterServer{})
	_ = server.Serve(context.Background(), nil)
}
`

// TestPlainProgram checks that a program without leaders links nothing of their elections.
func TestPlainProgram(t *testing.T) {
	source, binary := t.TempDir()+"/main.go", t.TempDir()+"/plain"
	kit.Must(t, os.WriteFile(source, []byte(plainProgram), 0o600))
	kit.Must(t, exec.CommandContext(t.Context(), "go", "build", "-o", binary, source).Run())
	symbols, err := exec.CommandContext(t.Context(), "go", "tool", "nm", binary).Output()
	kit.Must(t, err)
	ours := regexp.MustCompile(`\S*protoc-gen-go-etcd\S*`)
	for _, symbol := range ours.FindAllString(string(symbols), -1) {
		if regexp.MustCompile(`(?i)leader|candidate|\belection`).MatchString(symbol) {
			t.Errorf("the program has the symbol %s, want none of leaders", symbol)
		}
	}
}

// TestOptionsOfOthers checks that services with other projects' options, which have the same number as ours, get neither code
// nor an error, while a file in the same request that imports our options indirectly gets code.
func TestOptionsOfOthers(t *testing.T) {
	files := sources{
		"acme.proto": `syntax = "proto3";
package acme;
import "google/protobuf/descriptor.proto";
option go_package = "example.com/acme";
extend google.protobuf.ServiceOptions {
  string owner = 52379;
}
extend google.protobuf.MethodOptions {
  double cost = 52379;
}
`,
		"theirs.proto": `edition = "2024";
package theirs;
import option "acme.proto";
option go_package = "example.com/theirs";
message Request {}
service Text {
  option (acme.owner) = "the platform team";
  rpc Get(Request) returns (Request) {
    option (acme.cost) = 1.5;
  }
}
service MayBeOurs {
  option (acme.owner) = "\n\004demo";
}
`,
	}
	request := files.compile(t, everyField, "paths=source_relative", "theirs.proto")
	if all := generated(t, request); len(all) > 0 {
		t.Errorf("a request with foreign options alone: %d generated files, want 0", len(all))
	}
	ours := sources{
		"public.proto": `syntax = "proto3"; package shared; import public "` + optionsProto + `"; option go_package = "example.com/shared";`,
		"ours.proto": `syntax = "proto3"; package ours; import "public.proto"; option go_package = "example.com/ours";
			service Demo { option (etcd.discovery.v1.service).key = "acme/user"; }`,
	}.compile(t, everyField, "paths=source_relative", "ours.proto")
	for _, file := range request.GetProtoFile() {
		if name := file.GetName(); name == "acme.proto" || name == "theirs.proto" {
			ours.ProtoFile = append(ours.ProtoFile, file)
		}
	}
	ours.FileToGenerate = append(ours.FileToGenerate, "theirs.proto")
	if all := generated(t, ours); len(all) != 1 || !strings.Contains(all["ours_etcd.pb.go"], "NewDemoClientFromEtcd") {
		t.Errorf("a request with foreign options and ours: %d generated files, want ours_etcd.pb.go alone", len(all))
	}
}
