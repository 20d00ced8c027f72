package invoke

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/jhump/protoreflect/v2/grpcreflect"
	"github.com/jhump/protoreflect/v2/protoresolve"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/usage"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// Schema is what is known of the services that may be called.
type Schema struct {
	Services []protoreflect.FullName
	Resolver protoresolve.Resolver
}

var errNoReflection = errors.New("the server offers no reflection: give its descriptors by --protoset FILE, or by --proto FILE and --import-path DIR")

// ReflectSchema asks a server what it serves, until the context ends.
func ReflectSchema(ctx context.Context, conn *grpc.ClientConn) (*Schema, error) {
	client := grpcreflect.NewClientAuto(ctx, &reflected{ClientConnInterface: conn, imports: make(map[string][]string)}, grpcreflect.WithAllowMissingFileDescriptors())
	services, err := client.ListServices()
	switch {
	case status.Code(err) == codes.Unimplemented:
		return nil, errNoReflection
	case err != nil:
		return nil, err
	}
	return &Schema{Services: services, Resolver: client.AsResolver()}, nil
}

// Descriptors say where descriptors come from, if not from the server.
type Descriptors struct {
	Protosets, Protos, ImportPaths []string
}

// Schema returns nil if there are none.
func (d *Descriptors) Schema(ctx context.Context) (*Schema, error) {
	switch {
	case len(d.Protosets) > 0 && len(d.Protos) > 0:
		return nil, usage.Mistake(errors.New("--protoset and --proto exclude each other"))
	case len(d.ImportPaths) > 0 && len(d.Protos) == 0:
		return nil, usage.Mistake(errors.New("--import-path needs --proto"))
	case len(d.Protosets) > 0:
		return readProtosets(d.Protosets)
	case len(d.Protos) > 0:
		return CompileProtos(ctx, d.Protos, d.ImportPaths)
	}
	return nil, nil
}

func readProtosets(names []string) (*Schema, error) {
	var all descriptorpb.FileDescriptorSet
	known := make(map[string]*descriptorpb.FileDescriptorProto)
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--protoset: %w", err)
		}
		var set descriptorpb.FileDescriptorSet
		if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, &set); err != nil || len(set.File) == 0 {
			return nil, fmt.Errorf("--protoset: %s is no set of descriptors: make one by protoc --include_imports --descriptor_set_out, or by buf build -o", name)
		}
		for _, file := range set.File {
			file.SourceCodeInfo = nil // comments, which not all have
			switch other := known[file.GetName()]; {
			case other == nil:
				known[file.GetName()] = file
				all.File = append(all.File, file)
			case !proto.Equal(file, other):
				return nil, fmt.Errorf("--protoset: %s is described in two ways: make all by the same protoc or buf, of the same files", file.GetName())
			}
		}
	}
	files, err := protodesc.NewFiles(&all)
	if err != nil {
		return nil, fmt.Errorf("--protoset: %w", err)
	}
	registry, err := protoresolve.FromFiles(files)
	if err != nil {
		return nil, fmt.Errorf("--protoset: %w", err)
	}
	return newSchema(registry), nil
}

// CompileProtos finds imports below the import paths and, failing that, among those that the command has itself.
func CompileProtos(ctx context.Context, names, importPaths []string) (*Schema, error) {
	own := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: file}, err
	})
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(protocompile.CompositeResolver{
		&protocompile.SourceResolver{ImportPaths: importPaths}, own,
	})}
	files, err := compiler.Compile(ctx, names...)
	if err != nil && strings.Contains(err.Error(), "edition value") {
		return nil, fmt.Errorf("--proto: %w; compile it by protoc or buf, and give it by --protoset", err)
	}
	if err != nil {
		return nil, fmt.Errorf("--proto: %w", err)
	}
	registry := &protoresolve.Registry{}
	for _, file := range files {
		if err := registry.RegisterFile(file); err != nil {
			return nil, fmt.Errorf("--proto: %w", err)
		}
	}
	return newSchema(registry), nil
}

// newSchema takes every service of the files for one that may be called.
func newSchema(registry *protoresolve.Registry) *Schema {
	s := &Schema{Resolver: registry}
	registry.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			s.Services = append(s.Services, file.Services().Get(i).FullName())
		}
		return true
	})
	slices.Sort(s.Services)
	return s
}

// Types returns what JSON is read and written by: the types that the command has itself, and the schema's. A server
// that does not know a type says so in a way that would end the search.
func (s *Schema) Types() protoresolve.TypeResolver {
	return protoresolve.Combine(protoresolve.GlobalDescriptors, s.Resolver).AsTypeResolver()
}

// Find returns the method that is meant by a name: "package.Service/Method", "Service/Method" or "Method".
func (s *Schema) Find(name string) (protoreflect.MethodDescriptor, error) {
	name = strings.TrimPrefix(name, "/")
	var found []protoreflect.MethodDescriptor
	var there []string
	for _, service := range s.candidates(name) {
		described, err := s.Service(service)
		if err != nil {
			return nil, err
		}
		for i := range described.Methods().Len() {
			method := described.Methods().Get(i)
			full := FullMethod(method)
			there = append(there, full)
			switch {
			case full == name:
				return method, nil
			case survey.IsMethod(serviceconfig.MethodName{Service: string(service), Method: string(method.Name())}, name):
				found = append(found, method)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("there is no method %s: %s", name, s.known(there))
	}
	names := make([]string, len(found))
	for i, method := range found {
		names[i] = FullMethod(method)
	}
	return nil, fmt.Errorf("%s may be %s: name one of them", name, strings.Join(names, " or "))
}

// known says what there is instead of a method.
func (s *Schema) known(methods []string) string {
	if len(methods) > 0 {
		return "there are " + output.SomeOf(methods)
	}
	var names []string
	for _, service := range s.Services {
		names = append(names, string(service))
	}
	if len(names) == 0 {
		return "there is no service at all"
	}
	return "there are the services " + output.SomeOf(names)
}

// candidates returns the services that a name may be of. A method alone is none of gRPC's own services.
func (s *Schema) candidates(name string) []protoreflect.FullName {
	service, _, ok := strings.Cut(name, "/")
	all := slices.Clone(s.Services)
	if full := protoreflect.FullName(service); ok && strings.Contains(service, ".") && !slices.Contains(all, full) && full.IsValid() {
		if _, err := s.Resolver.FindDescriptorByName(full); err == nil {
			all = append(all, full) // the server does not list it, but knows it
		}
	}
	return slices.DeleteFunc(all, func(full protoreflect.FullName) bool {
		if !ok {
			return strings.HasPrefix(string(full), "grpc.reflection.") || strings.HasPrefix(string(full), "grpc.health.")
		}
		return string(full) != service && !strings.HasSuffix(string(full), "."+service)
	})
}

// Service returns the descriptor of a gRPC service.
func (s *Schema) Service(name protoreflect.FullName) (protoreflect.ServiceDescriptor, error) {
	found, err := s.Resolver.FindDescriptorByName(name)
	if err != nil {
		return nil, fmt.Errorf("describe the service %s: %w", name, err)
	}
	service, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("describe the service %s: it is described as something else", name)
	}
	return service, nil
}

// FullMethod returns the name of a method as "package.Service/Method".
func FullMethod(method protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("%s/%s", method.Parent().FullName(), method.Name())
}
