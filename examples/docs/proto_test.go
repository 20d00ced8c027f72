package docs

import (
	"fmt"
	"slices"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	protobuf "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
	"github.com/etcdrpc/protoc-gen-go-etcd/proto"
)

const protoHead = `syntax = "proto3";
package page%[1]d.v1;
import "etcd/discovery/v1/options.proto";
option go_package = "example.com/page%[1]d;page";
message User { string id = 1; }
message GetRequest { User user = 1; }
message GetReply {}
`

// TestProto compiles the services of the pages and generates code from them.
func TestProto(t *testing.T) {
	options, err := proto.Files.ReadFile(optionsProto)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range all(t, "proto") {
		file := fmt.Sprintf("page%d/v1/page.proto", i)
		compiler := protocompile.Compiler{
			Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{
				file:         fmt.Sprintf(protoHead, i) + b.text,
				optionsProto: string(options),
			})}),
			SourceInfoMode: protocompile.SourceInfoStandard,
		}
		compiled, err := compiler.Compile(t.Context(), file)
		if err != nil {
			t.Errorf("%s:%d: %v", b.page, b.line, err)
			continue
		}
		request, err := protobuf.Marshal(&pluginpb.CodeGeneratorRequest{FileToGenerate: []string{file}, ProtoFile: withImports(compiled[0])})
		if err != nil {
			t.Fatal(err)
		}
		response, err := gen.Respond(request)
		if err != nil || response.Error != nil || len(response.GetFile()) != 1 {
			t.Errorf("%s:%d: %d files of code: %v, %s", b.page, b.line, len(response.GetFile()), err, response.GetError())
		}
	}
}

const optionsProto = "etcd/discovery/v1/options.proto"

// withImports returns a file and all its imports, imports first.
func withImports(file protoreflect.FileDescriptor) []*descriptorpb.FileDescriptorProto {
	var files []*descriptorpb.FileDescriptorProto
	for i := range file.Imports().Len() {
		for _, imported := range withImports(file.Imports().Get(i).FileDescriptor) {
			if !slices.ContainsFunc(files, func(f *descriptorpb.FileDescriptorProto) bool { return f.GetName() == imported.GetName() }) {
				files = append(files, imported)
			}
		}
	}
	return append(files, protoutil.ProtoFromFileDescriptor(file))
}
