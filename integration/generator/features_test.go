package generator

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// TestFeatures says that the plugin takes all that protoc-gen-go does.
func TestFeatures(t *testing.T) {
	got, want := generate(t, new(pluginpb.CodeGeneratorRequest)), answer(t, "protoc-gen-go", new(pluginpb.CodeGeneratorRequest))
	if got.GetSupportedFeatures() != want.GetSupportedFeatures() {
		t.Errorf("features %b; protoc-gen-go has %b", got.GetSupportedFeatures(), want.GetSupportedFeatures())
	}
	if got.GetMinimumEdition() != want.GetMinimumEdition() || got.GetMaximumEdition() != want.GetMaximumEdition() {
		t.Errorf("editions %d to %d; protoc-gen-go has %d to %d",
			got.GetMinimumEdition(), got.GetMaximumEdition(), want.GetMinimumEdition(), want.GetMaximumEdition())
	}
}

// TestEveryEdition says that testdata has a case for each edition that is supported.
func TestEveryEdition(t *testing.T) {
	var seen []descriptorpb.Edition
	for _, name := range cases(t) {
		files := sources{}
		files.readDir(t, dataDir+"/"+name, name)
		for _, file := range files.compile(t, none, "").GetProtoFile() {
			if slices.Contains(files.paths(), file.GetName()) {
				seen = append(seen, edition(file))
			}
		}
	}
	response := generate(t, new(pluginpb.CodeGeneratorRequest))
	for number := range descriptorpb.Edition_name {
		supported := number >= response.GetMinimumEdition() && number <= response.GetMaximumEdition()
		if supported && !slices.Contains(seen, descriptorpb.Edition(number)) {
			t.Errorf("no case has %v", descriptorpb.Edition(number))
		}
	}
}

func edition(file *descriptorpb.FileDescriptorProto) descriptorpb.Edition {
	switch file.GetSyntax() {
	case "editions":
		return file.GetEdition()
	case "proto3":
		return descriptorpb.Edition_EDITION_PROTO3
	default:
		return descriptorpb.Edition_EDITION_PROTO2
	}
}

// TestImportOption says that edition 2024 keeps the file of the options from plugins,
// so that they can be read in no other way than through the linked extension.
func TestImportOption(t *testing.T) {
	files := sources{}
	files.readDir(t, dataDir+"/edition2024", "edition2024")
	request := files.compile(t, everyField, "paths=source_relative")
	request.ProtoFile = slices.DeleteFunc(request.ProtoFile, func(file *descriptorpb.FileDescriptorProto) bool {
		return file.GetName() == optionsProto
	})
	if _, ok := generated(t, request)["edition2024/service_etcd.pb.go"]; !ok {
		t.Error("nothing is generated where the options' file is not in the request")
	}
}
