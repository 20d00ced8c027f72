package gen

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// A Description holds the options of a service, for programs without generated code.
type Description struct {
	Name          string // the full name of the service
	Key           string
	Authority     string // of the key, if the options have none
	ServiceConfig string // JSON
	Leader        []string
	LeaseSuffix   bool                 // whether readers must read the layout LEASE_SUFFIX
	JSON          *endpoint.JSONFields // the fields of the JSON layout that readers must read; nil: none
}

// Describe reads an encoded set of file descriptors with all imports, as "buf build" writes it, and describes
// the services that have the option, in the order of the files. The error lists the problems of their
// options, one a line, as the plugin does. Service configs are checked if the options have no problem.
func Describe(set []byte) ([]Description, error) {
	files := new(descriptorpb.FileDescriptorSet)
	if err := (proto.UnmarshalOptions{Resolver: unparsed{protoregistry.GlobalTypes}}).Unmarshal(set, files); err != nil {
		return nil, fmt.Errorf("parse the file descriptors: %w", err)
	}
	if len(files.GetFile()) == 0 {
		return nil, errors.New("there are no file descriptors: want the output of buf build -o or protoc --include_imports --descriptor_set_out")
	}
	plugin, err := pluginFor(files.GetFile())
	if err != nil {
		return nil, fmt.Errorf("read the file descriptors, which need all imports: %w", err)
	}
	var problems problems
	services := readServices(plugin, &problems)
	checkOptions(plugin.Files, services)
	if err := problems.err(plugin.Files); err != nil {
		return nil, err
	}
	checkServiceConfigs(plugin.Files, services)
	if err := problems.err(plugin.Files); err != nil {
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

// pluginFor returns a plugin for all files. It discards the location of the code, so files need no go_package.
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
		Name: string(s.proto.Desc.FullName()), Key: s.options.GetKey(), Authority: s.options.GetAuthority(),
		ServiceConfig: serviceConfigOf(s).JSON(), Leader: s.leaderMethods(),
		LeaseSuffix: s.layout() == discoveryv1.Layout_LAYOUT_LEASE_SUFFIX,
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
