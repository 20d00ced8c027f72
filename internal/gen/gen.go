// Package gen is the plugin: it reads the options in proto files, checks all of them
// and writes the Go code that goes beside that of protoc-gen-go-grpc.
//
// It works in three steps. The options are read into services (model.go); each rule
// of options.proto is checked (check.go and the files it calls); and only what
// has passed all of them is rendered (render.go).
package gen

import (
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// Options are those that protogen runs the plugin with. A parameter that protogen
// does not know is an error.
func Options() protogen.Options {
	return protogen.Options{
		ParamFunc: func(name, _ string) error {
			return fmt.Errorf("unknown parameter %q: protoc-gen-go-etcd takes those of every Go plugin (paths, module, M) and none of its own", name)
		},
	}
}

// Generate adds a file to the plugin's output for each file to generate that has a
// service with the option. If anything in the request is wrong it adds none, and its
// error has a line for each fault.
func Generate(plugin *protogen.Plugin) error {
	plugin.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL | pluginpb.CodeGeneratorResponse_FEATURE_SUPPORTS_EDITIONS)
	plugin.SupportedEditionsMinimum = descriptorpb.Edition_EDITION_PROTO2
	plugin.SupportedEditionsMaximum = descriptorpb.Edition_EDITION_2024

	var problems problems
	services := make(map[*protogen.File][]*service)
	for _, file := range plugin.Files {
		if found := read(file, &problems); len(found) > 0 {
			services[file] = found
		}
	}
	check(plugin.Files, services, &problems)
	if err := problems.err(plugin.Files); err != nil {
		return err
	}
	for _, file := range plugin.Files {
		if file.Generate && len(services[file]) > 0 {
			render(plugin, file, services[file])
		}
	}
	return nil
}
