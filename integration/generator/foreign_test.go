package generator

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/descriptorpb"
)

const foreignOption = `syntax = "proto3";
package acme;
import "google/protobuf/descriptor.proto";
option go_package = "example.com/acme";
extend google.protobuf.ServiceOptions {
  string owner = 52379;
}
`

func foreignUser(text string) string {
	return `edition = "2024";
package demo;
import option "acme.proto";
option go_package = "example.com/demo";
service Demo {
  option (acme.owner) = "` + text + `";
}
`
}

// TestN2_OptionOfNoFile says where an option stands that cannot be ours, though no file of the request says whose
// it is: edition 2024 keeps the files of options from plugins.
func TestN2_OptionOfNoFile(t *testing.T) {
	files := sources{"acme.proto": foreignOption, "demo.proto": foreignUser("the platform team")}
	request := files.compile(t, everyField, "paths=source_relative", "demo.proto")
	request.ProtoFile = slices.DeleteFunc(request.ProtoFile, func(file *descriptorpb.FileDescriptorProto) bool { return file.GetName() == "acme.proto" })
	const want = "demo.proto:6:3: demo.Demo: has an option with the number 52379, which is not (etcd.discovery.v1.service), whose number that is, " +
		"and which no file of the request defines: give it another number"
	if got := generate(t, request).GetError(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// TestN2_OptionElsewhere says that an option that a file does not see is none of its business.
func TestN2_OptionElsewhere(t *testing.T) {
	ours := sources{"ours.proto": strings.NewReplacer("acme.proto", optionsProto, "demo", "ours", "acme.owner", "etcd.discovery.v1.service).key", ")", "").
		Replace(foreignUser("acme/user"))}
	request := ours.compile(t, everyField, "paths=source_relative")
	theirs := sources{"acme.proto": foreignOption, "demo.proto": foreignUser("the platform team")}.compile(t, everyField, "")
	for _, file := range theirs.GetProtoFile() {
		if slices.Contains([]string{"acme.proto", "demo.proto"}, file.GetName()) {
			request.ProtoFile = append(request.ProtoFile, file)
		}
	}
	if _, ok := generated(t, request)["ours_etcd.pb.go"]; !ok {
		t.Error("nothing is generated")
	}
	request.FileToGenerate = append(request.FileToGenerate, "demo.proto")
	if got, want := generate(t, request).GetError(), "demo.proto:6:3: demo.Demo: has the option (acme.owner) (acme.proto:6:3), "; !strings.HasPrefix(got, want) {
		t.Errorf("%s\nwant it to begin\n%s", got, want)
	}
}
