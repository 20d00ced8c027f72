// Package codegen asks plugins of protoc for code, without protoc or buf.
package codegen

import (
	"context"
	"slices"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// Request compiles a proto file and returns the request, in protobuf's
// encoding, to generate its code.
func Request(
	ctx context.Context,
	sources *protocompile.SourceResolver,
	file string,
) ([]byte, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(sources),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}

	compiled, err := compiler.Compile(ctx, file)
	if err != nil {
		return nil, err
	}

	return proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{file},
		Parameter:      new("paths=source_relative"),
		ProtoFile:      withImports(compiled[0]),
	})
}

// withImports returns a file and all its imports, imports first.
func withImports(file protoreflect.FileDescriptor) []*descriptorpb.FileDescriptorProto {
	var files []*descriptorpb.FileDescriptorProto
	for i := range file.Imports().Len() {
		for _, imported := range withImports(file.Imports().Get(i).FileDescriptor) {
			same := func(f *descriptorpb.FileDescriptorProto) bool {
				return f.GetName() == imported.GetName()
			}
			if !slices.ContainsFunc(files, same) {
				files = append(files, imported)
			}
		}
	}

	return append(files, protoutil.ProtoFromFileDescriptor(file))
}
