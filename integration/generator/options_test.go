package generator

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// TestFeatures checks that the plugin supports the same features and editions
// as protoc-gen-go.
func TestFeatures(t *testing.T) {
	got := generate(t, new(pluginpb.CodeGeneratorRequest))
	want := answer(t, "protoc-gen-go", new(pluginpb.CodeGeneratorRequest))
	if got.GetSupportedFeatures() != want.GetSupportedFeatures() {
		t.Errorf("features %b, want %b as protoc-gen-go has",
			got.GetSupportedFeatures(), want.GetSupportedFeatures())
	}

	if got.GetMinimumEdition() != want.GetMinimumEdition() ||
		got.GetMaximumEdition() != want.GetMaximumEdition() {
		t.Errorf("editions %d to %d, want %d to %d as protoc-gen-go has",
			got.GetMinimumEdition(), got.GetMaximumEdition(),
			want.GetMinimumEdition(), want.GetMaximumEdition())
	}
}

// TestImportOption checks that "import option" gives the same code in each kind
// of request, whether it names options.proto or a file that imports
// options.proto publicly. Requests of protoc have the imported files in any
// order. Requests of buf leave out the imported files, and images also leave
// out the imports.
func TestImportOption(t *testing.T) {
	const shared, service = "shared.proto", "edition2024/service.proto"
	for _, path := range []string{optionsProto, shared} {
		files := sources{shared: `edition = "2023"; package shared; import public "` +
			optionsProto + `"; option go_package = "example.com/shared";`}
		files.readDir(t, dataDir+"/edition2024", "edition2024")
		files[service] = strings.Replace(files[service], optionsProto, path, 1)
		request := files.compile(t, everyField, "paths=source_relative", service)
		check := func(where string) {
			diff := cmp.Diff(committed(t, "edition2024"), generated(t, request))
			if diff != "" {
				t.Errorf("import option of %s, in %s (-want +got):\n%s", path, where, diff)
			}
		}

		check("a request of protoc")

		needed := []string{service, "google/protobuf/empty.proto"}
		slices.SortStableFunc(request.ProtoFile, func(a, b *descriptorpb.FileDescriptorProto) int {
			return slices.Index(needed, b.GetName()) - slices.Index(needed, a.GetName())
		})
		check("a request of protoc with the imported files at the end")

		request.ProtoFile = request.ProtoFile[:len(needed)]
		check("a request of buf")

		request.ProtoFile[1].OptionDependency = nil
		check("an image of buf")
	}
}

// TestOptionsAreDescribed compares the message LoadBalancing with
// serviceconfig.Options and serviceconfig.Picking. Each field has an option or
// chooses a policy. Options without a field are LiveOnly.
func TestOptionsAreDescribed(t *testing.T) {
	fields := new(discoveryv1.LoadBalancing).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		names := func(p serviceconfig.PolicyRule) bool { return p.Proto == string(field.Name()) }
		isPolicy := slices.ContainsFunc(serviceconfig.Picking, names)
		o := serviceconfig.OptionNamed(field.JSONName())
		if o == nil && !isPolicy && field.Name() != "outlier_detection" ||
			isPolicy != (field.ContainingOneof() != nil) {
			t.Errorf("field %s of LoadBalancing is neither in serviceconfig.Options nor in serviceconfig.Picking",
				field.Name())
		}
	}

	for _, o := range serviceconfig.Options {
		if field := fields.ByJSONName(o.Name); o.LiveOnly != (field == nil) {
			t.Errorf("option %s: LoadBalancing has the field %v, want one unless LiveOnly (%v)",
				o.Name, field, o.LiveOnly)
		}
	}
}

// TestDependencies checks that only the generated code of services with outlier
// detection links gRPC's xDS support, which is large.
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

// TestPlainProgram checks that a program without leaders links no code of
// elections.
func TestPlainProgram(t *testing.T) {
	source := t.TempDir() + "/main.go"
	binary := t.TempDir() + "/plain"
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

// TestOptionsOfOthers checks services with another project's options that have
// the same number as ours. If the request declares only the other project's
// options, the services get neither code nor an error. If the request declares
// ours, too, or none, options that can be read as ours are ours.
func TestOptionsOfOthers(t *testing.T) {
	request := sources{
		"acme.proto": `syntax = "proto3";
package acme;
import "google/protobuf/descriptor.proto";
option go_package = "example.com/acme";
message Options {
  extend google.protobuf.ServiceOptions { string owner = 52379; }
  extend google.protobuf.MethodOptions { double cost = 52379; }
}
`,
		"theirs.proto": `edition = "2024";
package theirs;
import option "acme.proto";
option go_package = "example.com/theirs";
message Request {}
service Text {
  option (acme.Options.owner) = "the platform team";
  rpc Get(Request) returns (Request) {
    option (acme.Options.cost) = 1.5;
  }
}
service MayBeOurs {
  option (acme.Options.owner) = "\n\001/";
}
`,
	}.compile(t, everyField, "paths=source_relative", "theirs.proto")
	if all := generated(t, request); len(all) > 0 {
		t.Errorf("a request with foreign options alone: %d generated files, want 0", len(all))
	}

	options := protodesc.ToFileDescriptorProto(discoveryv1.File_etcd_discovery_v1_options_proto)
	for hint, files := range map[string][]*descriptorpb.FileDescriptorProto{
		"": append(request.ProtoFile, options),
		"\nno file in the request declares these options: if they are not from " +
			optionsProto + `, replace "import option" by "import"`: request.ProtoFile[2:],
	} {
		request.ProtoFile = files

		want := `theirs.proto:13:3: theirs.MayBeOurs: key "/" is a slash alone: name at least one segment after it` + hint
		if got := generate(t, request).GetError(); got != want {
			t.Errorf("a request with %d files: error %q, want %q", len(files), got, want)
		}
	}
}
