package generator

import (
	"regexp"
	"slices"
	"strings"
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

// says is what a proto file says of its edition.
var says = regexp.MustCompile(`(?m)^(?:edition|syntax) = "(\w+)";`)

// TestEveryEdition says that testdata has a case for each edition that is supported.
func TestEveryEdition(t *testing.T) {
	seen := make(map[descriptorpb.Edition]bool)
	for _, name := range cases(t) {
		files := sources{}
		files.readDir(t, dataDir+"/"+name, name)
		for path, text := range files {
			match := says.FindStringSubmatch(text)
			if match == nil {
				t.Fatalf("%s says nothing of its edition", path)
			}
			edition, ok := descriptorpb.Edition_value["EDITION_"+strings.ToUpper(match[1])]
			if !ok {
				t.Fatalf("%s is of edition %s", path, match[1])
			}
			seen[descriptorpb.Edition(edition)] = true
		}
	}
	response := generate(t, new(pluginpb.CodeGeneratorRequest))
	for number := range descriptorpb.Edition_name {
		supported := number >= response.GetMinimumEdition() && number <= response.GetMaximumEdition()
		if supported && !seen[descriptorpb.Edition(number)] {
			t.Errorf("no case has %v", descriptorpb.Edition(number))
		}
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
