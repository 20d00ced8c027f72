package generator

import (
	"strings"
	"testing"
)

// TestOptionsOfOthers generates files that use foreign options with the number of ours: they get no
// code and no error. A file of the same request that imports ours indirectly does get code.
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
		t.Errorf("foreign options alone: %d generated files", len(all))
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
		t.Errorf("foreign options and ours: %d generated files", len(all))
	}
}
