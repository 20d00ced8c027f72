// Package gen is the plugin: it reads the options in proto files, checks them
// and writes Go code that complements the code of protoc-gen-go-grpc or
// protoc-gen-connect-go.
//
// It reads the options into services, checks each rule of options.proto, and
// renders the code if all rules hold:
//
//	gen.go            the plugin's request and response, and descriptions of services
//	model.go          the services and methods, read from the options
//	options.go        parsing the options, also those of a newer plugin
//	check.go          the checks of a service and its methods
//	key.go            ... of its key, and of the keys of all services
//	serviceconfig.go  its gRPC service config, built once for checks and code
//	problem.go        the problems found, each with its place in a proto file
//	output.go         the packages and files of the output
//	render.go         the description and the constructors of a service
//	affinity.go       the affinity of its methods: checks and code
//	leader.go         the methods whose calls go to its leader: checks and code
//	connect.go        the code for connect-go
//
// The tests run from proto source to output, and need a compiler. They are in
// the folder generator of the module integration, and their cases are in
// testdata.
package gen

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// Run reads a request of protoc or buf and writes the response, which includes
// the problems of the proto files. After an error, the response is missing or
// incomplete.
func Run(in io.Reader, out io.Writer) error {
	raw, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}

	response, err := Respond(raw)
	if err != nil {
		return err
	}

	raw, err = proto.Marshal(response)
	if err != nil {
		return fmt.Errorf("write the response: %w", err)
	}

	if _, err := out.Write(raw); err != nil {
		return fmt.Errorf("write the response: %w", err)
	}

	return nil
}

// Respond answers an encoded request.
func Respond(raw []byte) (*pluginpb.CodeGeneratorResponse, error) {
	request := new(pluginpb.CodeGeneratorRequest)
	if err := unmarshaler.Unmarshal(raw, request); err != nil {
		return nil, fmt.Errorf("parse the request: %w", err)
	}

	var p parameters
	plugin, err := protogen.Options{ParamFunc: p.set}.New(request)
	if err != nil {
		return nil, err
	}

	plugin.SupportedFeatures = uint64(
		pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL |
			pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS)
	plugin.SupportedEditionsMinimum = descriptorpb.Edition_EDITION_PROTO2
	plugin.SupportedEditionsMaximum = descriptorpb.Edition_EDITION_2024

	if err := generate(plugin, p.target()); err != nil {
		plugin.Error(err)
	}

	return plugin.Response(), nil
}

// generate adds code to the plugin's output for each file to generate in which
// a service has the option. If the request has problems, generate adds no code,
// and the error has a line for each problem.
func generate(plugin *protogen.Plugin, to target) error {
	var problems problems
	services := readServices(plugin, &problems)
	checkOptions(plugin.Files, services)

	// protoc and buf report output files with the same name.
	checkPackages(plugin.Files, services, to)
	checkNames(plugin.Files, services, to)

	if err := checkServiceConfigs(plugin.Files, services, &problems); err != nil {
		return err
	}

	for _, file := range plugin.Files {
		if file.Generate && len(services[file]) > 0 {
			render(plugin, file, services[file], to)
		}
	}

	return nil
}

// A Description holds the options of a service, for programs without generated
// code.
type Description struct {
	Name string // the full name of the service
	Key  string

	// the authority from the key, if the options set none
	Authority string

	ServiceConfig string // JSON

	// full names of the methods whose calls go to the leader
	Leader []string

	// whether readers must read the layout LEASE_SUFFIX
	LeaseSuffix bool

	// the fields of the JSON layout that readers must read; nil if there is
	// none
	JSON *endpoint.JSONFields
}

// Describe reads an encoded set of file descriptors with all imports, as "buf
// build" writes it, and describes the services that have the option, in the
// order of the files. The error lists the problems of their options, one a
// line, as the plugin does. Service configs are checked if the options have no
// problem.
func Describe(set []byte) ([]Description, error) {
	files := new(descriptorpb.FileDescriptorSet)
	if err := unmarshaler.Unmarshal(set, files); err != nil {
		return nil, fmt.Errorf("parse the file descriptors: %w", err)
	}

	if len(files.GetFile()) == 0 {
		return nil, errors.New("there are no file descriptors: want the output of buf build -o or protoc --include_imports --descriptor_set_out")
	}

	plugin, err := pluginFor(files.GetFile())
	if err != nil {
		return nil, fmt.Errorf("read the file descriptors, which need all imports: %w",
			err)
	}

	var problems problems
	services := readServices(plugin, &problems)
	checkOptions(plugin.Files, services)

	if err := checkServiceConfigs(plugin.Files, services, &problems); err != nil {
		return nil, err
	}

	var all []Description
	for _, file := range plugin.Files {
		for _, s := range services[file] {
			all = append(all, s.describe())
		}
	}

	return all, nil
}

// pluginFor returns a plugin for all files. The location of the code does not
// matter here, so files need no go_package.
func pluginFor(files []*descriptorpb.FileDescriptorProto) (*protogen.Plugin, error) {
	request := &pluginpb.CodeGeneratorRequest{ProtoFile: files}
	for _, file := range files {
		request.FileToGenerate = append(request.FileToGenerate, file.GetName())

		if file.Options == nil {
			file.Options = new(descriptorpb.FileOptions)
		}

		file.Options.GoPackage = proto.String("described/described")
	}

	return protogen.Options{}.New(request)
}

func (s *service) describe() Description {
	d := Description{
		Name:          string(s.proto.Desc.FullName()),
		Key:           s.options.GetKey(),
		Authority:     s.options.GetAuthority(),
		ServiceConfig: s.config.JSON(),
		Leader:        s.leaderMethods(),
		LeaseSuffix:   s.layout() == discoveryv1.Layout_LAYOUT_LEASE_SUFFIX,
	}
	if d.Authority == "" {
		d.Authority, _ = servicekey.Authority(d.Key) // the key has been checked
	}

	if s.options.GetJsonLayout() != nil {
		fields := s.jsonLayout()
		d.JSON = &fields
	}

	return d
}
