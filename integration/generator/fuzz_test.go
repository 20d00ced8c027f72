package generator

import (
	"bytes"
	"go/format"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/gen"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// FuzzOptions generates code for a service whose options are arbitrary bytes
// and whose names are arbitrary.
func FuzzOptions(f *testing.F) {
	add := func(service, method, parameter string) {
		encode := func(text string, m proto.Message) []byte {
			kit.Must(f, prototext.Unmarshal([]byte(text), m))
			wire, err := proto.Marshal(m)
			kit.Must(f, err)

			return wire
		}

		f.Add(
			encode(service, new(discoveryv1.ServiceOptions)),
			encode(method, new(discoveryv1.MethodOptions)),
			"hello/hello.proto", "hello.v1", "Greeter", "SayHello", parameter)
	}

	add(`key: "acme/user"`, ``, "paths=source_relative")
	add(`key: "/größe" authority: "a.b:1" lease_ttl { seconds: 5 } layout: LAYOUT_LEASE_SUFFIX`,
		`affinity: "sub.id" timeout { seconds: 1 }`, "module=example.com/hello")
	add(`key: "acme/other/x" load_balancing { ring_hash {} prefer_zone: true outlier_detection {} }`,
		`affinity: "name" wait_for_ready: true retry { max_attempts: 3 }`,
		"Mhello/hello.proto=example.com/y,nope=1")
	add(`key: "acme/a" load_balancing { least_request { choice_count: 3 } outlier_detection { interval { seconds: 1 } success_rate_ejection { request_volume: 1 } } }`,
		`retry { max_attempts: 3 initial_backoff { nanos: 1 } max_backoff { seconds: 1 } backoff_multiplier: 1.5 codes: CODE_UNAVAILABLE }`, "")

	f.Fuzz(func(t *testing.T, service, method []byte, file, pkg, name, rpc, parameter string) {
		checkAnswer(t, optionsFile(t, service, method, file, pkg, name, rpc), parameter)
	})
}

// twoServices is a proto file with two services, in the text format. The first
// one lacks options and names.
const twoServices = `
syntax: "proto3"
options { go_package: "example.com/hello;hello" }
message_type {
  name: "Request"
  field { name: "name" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "sub" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE }
  field { name: "ratio" number: 3 label: LABEL_OPTIONAL type: TYPE_DOUBLE }
  nested_type {
    name: "Sub"
    field { name: "id" number: 1 label: LABEL_OPTIONAL type: TYPE_BYTES }
  }
}
service {
  options {}
  method { options {} }
  method { name: "Stream" client_streaming: true }
}
service {
  name: "Other"
  options { [etcd.discovery.v1.service] { key: "acme/other" } }
}
source_code_info {
  location { path: [6, 0] span: [9, 0, 20, 1] }
  location { path: [6, 0, 3, 52379] span: [10, 2, 11, 4] }
  location { path: [6, 0, 2, 0] span: [12, 2, 14, 4] }
  location { path: [6, 1] span: [21, 0, 22, 1] }
}
`

// optionsFile returns a proto file with two services. The first has the given
// options and names.
func optionsFile(
	t *testing.T,
	service, method []byte,
	file, pkg, name, rpc string,
) *descriptorpb.FileDescriptorProto {
	t.Helper()

	scope := "."
	if pkg != "" {
		scope += pkg + "."
	}

	message := scope + "Request"

	made := new(descriptorpb.FileDescriptorProto)
	kit.Must(t, prototext.Unmarshal([]byte(twoServices), made))
	made.Name = &file
	made.Package = &pkg
	made.MessageType[0].Field[1].TypeName = proto.String(message + ".Sub")

	first := made.Service[0]
	first.Name = &name
	first.Options.ProtoReflect().SetUnknown(option(service))

	for _, m := range first.Method {
		m.InputType = &message
		m.OutputType = &message
	}

	first.Method[0].Name = &rpc
	first.Method[0].Options.ProtoReflect().SetUnknown(option(method))

	return made
}

// option returns the encoding of this project's option with the given content.
func option(content []byte) []byte {
	number := discoveryv1.E_Service.TypeDescriptor().Number()
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// place matches the start of an error line: the file and, if the request has
// positions, line and column. Errors about the parameter module have no file.
var place = regexp.MustCompile(
	`^.+(:[1-9][0-9]*:[1-9][0-9]*)?: \S|generated file does not match prefix`)

// checkAnswer checks that a request for one file is answered by lines that
// begin with a place, or by formatted Go source.
func checkAnswer(t *testing.T, file *descriptorpb.FileDescriptorProto, parameter string) {
	t.Helper()

	options := protodesc.ToFileDescriptorProto(discoveryv1.File_etcd_discovery_v1_options_proto)
	request := &pluginpb.CodeGeneratorRequest{
		Parameter:      &parameter,
		FileToGenerate: []string{file.GetName()},
		ProtoFile:      []*descriptorpb.FileDescriptorProto{options, file},
	}

	wire, err := proto.Marshal(request)
	if err != nil {
		return // no compiler sends a name that is not UTF-8
	}

	var out bytes.Buffer
	if gen.Run(bytes.NewReader(wire), &out) != nil {
		return // protogen refuses the request
	}

	response := new(pluginpb.CodeGeneratorResponse)
	kit.Must(t, proto.Unmarshal(out.Bytes(), response))

	if response.Error != nil {
		if len(response.GetFile()) > 0 {
			t.Fatalf("%d generated files, want none with the error %s",
				len(response.GetFile()), response.GetError())
		}

		for line := range strings.SplitSeq(response.GetError(), "\n") {
			if !place.MatchString(line) {
				t.Fatalf("line %q of the error does not begin with a place:\n%s",
					line, response.GetError())
			}
		}

		return
	}

	for _, file := range response.GetFile() {
		formatted, err := format.Source([]byte(file.GetContent()))
		if err != nil || string(formatted) != file.GetContent() {
			t.Fatalf("%s differs from what gofmt writes (error %v):\n%s",
				file.GetName(), err, file.GetContent())
		}
	}
}
