package generator

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/pluginpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// Reporting many errors in one file takes linear time, as the allocations show. It was quadratic: 7 s for 8,000.
func TestManyProblems(t *testing.T) {
	allocated := func(n int) float64 {
		request := manyProblems(n)
		return testing.AllocsPerRun(1, func() {
			lines := strings.Split(generate(t, request).GetError(), "\n")
			want := fmt.Sprintf("demo.proto:%d:2: demo.Demo.M%d: timeout is 0s: give it more than zero", n, n-1)
			if len(lines) != n || lines[n-1] != want {
				t.Errorf("%d problems, the last %q; want %d, %q", len(lines), lines[len(lines)-1], n, want)
			}
		})
	}
	if half, all := allocated(500), allocated(1000); all > 3*half {
		t.Errorf("500 problems make %v allocations, and 1000 make %v", half, all)
	}
}

// manyProblems returns a request for a service of n methods, each with a timeout of 0.
func manyProblems(n int) *pluginpb.CodeGeneratorRequest {
	options := new(descriptorpb.ServiceOptions)
	proto.SetExtension(options, discoveryv1.E_Service, &discoveryv1.ServiceOptions{Key: "demo"})
	service := &descriptorpb.ServiceDescriptorProto{Name: proto.String("Demo"), Options: options}
	positions := new(descriptorpb.SourceCodeInfo)
	for i := range int32(n) {
		options := new(descriptorpb.MethodOptions)
		proto.SetExtension(options, discoveryv1.E_Method, &discoveryv1.MethodOptions{Timeout: new(durationpb.Duration)})
		service.Method = append(service.Method, &descriptorpb.MethodDescriptorProto{
			Name: proto.String(fmt.Sprint("M", i)), InputType: proto.String(".demo.M"), OutputType: proto.String(".demo.M"), Options: options,
		})
		for _, path := range [][]int32{{6, 0, 2, i}, {6, 0, 2, i, 4, 52379, 1, 1}} {
			positions.Location = append(positions.Location, &descriptorpb.SourceCodeInfo_Location{Path: path, Span: []int32{i, 1, 2}})
		}
	}
	return &pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{"demo.proto"},
		ProtoFile: []*descriptorpb.FileDescriptorProto{{
			Name: proto.String("demo.proto"), Package: proto.String("demo"), Syntax: proto.String("proto3"),
			Options:        &descriptorpb.FileOptions{GoPackage: proto.String("example.com/demo")},
			MessageType:    []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
			Service:        []*descriptorpb.ServiceDescriptorProto{service},
			SourceCodeInfo: positions,
		}},
	}
}

// TestFileNames checks that a file's name cannot add a line to the code or to an error.
func TestFileNames(t *testing.T) {
	const name = "a\nfunc init() { panic(1) }\n//\u202e\r\x1b[2J.proto"
	const shown = "a\\nfunc init() { panic(1) }\\n//\\u202e\\r\\x1b[2J.proto"
	request := func(deprecated bool, key string) *pluginpb.CodeGeneratorRequest {
		options := new(descriptorpb.ServiceOptions)
		proto.SetExtension(options, discoveryv1.E_Service, &discoveryv1.ServiceOptions{Key: key, Authority: "demo.acme.com"})
		return &pluginpb.CodeGeneratorRequest{
			FileToGenerate: []string{name},
			Parameter:      proto.String("paths=source_relative"),
			ProtoFile: []*descriptorpb.FileDescriptorProto{{
				Name: proto.String(name), Syntax: proto.String("proto3"),
				Options: &descriptorpb.FileOptions{GoPackage: proto.String("example.com/demo"), Deprecated: &deprecated},
				Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Demo"), Options: options}},
			}},
		}
	}
	for deprecated, want := range map[bool]string{false: "// source: " + shown + "\n", true: "// " + shown + " is a deprecated file.\n"} {
		for _, content := range generated(t, request(deprecated, "demo")) {
			header, _, _ := strings.Cut(content, "package ")
			if _, line, _ := strings.Cut(header, "\n"); line != want+"\n" {
				t.Errorf("%q; want %q", line, want)
			}
		}
	}
	if got, want := generate(t, request(false, "/")).GetError(), shown+": Demo: key "; !strings.HasPrefix(got, want) {
		t.Errorf("%q; want it to begin %q", got, want)
	}
}
