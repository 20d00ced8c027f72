// Package schema finds methods of gRPC services, by a server's reflection or in
// an image of proto files.
package schema

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// maxReflected bounds the descriptions of files that a server may send, in
// bytes.
const maxReflected = 64 << 20

// Schema describes the services that may be called.
type Schema struct {
	Files    *protoregistry.Files
	services []string
}

// Read returns the schema in an image of proto files.
func Read(image []byte) (*Schema, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(image, &set); err != nil || len(set.File) == 0 {
		return nil, errors.New("the file is not an image of proto files: make one by buf build -o, or by protoc --include_imports --descriptor_set_out")
	}

	s := new(Schema)
	for _, file := range set.File {
		for _, service := range file.Service {
			s.services = append(s.services,
				strings.TrimPrefix(file.GetPackage()+"."+service.GetName(), "."))
		}
	}

	var err error
	s.Files, err = protodesc.NewFiles(&set)

	return s, err
}

// Reflect asks a server to describe the services that may have a method, and
// all their imports.
func Reflect(
	ctx context.Context,
	conn grpc.ClientConnInterface,
	method string,
) (*Schema, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// Both versions have the same messages on the wire.
	for _, version := range []string{"v1", "v1alpha"} {
		stream, err := conn.NewStream(ctx,
			&grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
			"/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
		if err != nil {
			return nil, err
		}

		s, err := reflect(stream, method)
		if status.Code(err) != codes.Unimplemented {
			return s, err
		}
	}

	return nil, errors.New(
		"the server has no reflection: give an image of its proto files by --schema")
}

func reflect(stream grpc.ClientStream, method string) (*Schema, error) {
	listed, err := ask(stream, &refv1.ServerReflectionRequest{
		MessageRequest: &refv1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		return nil, err
	}

	var s Schema
	var set descriptorpb.FileDescriptorSet

	var questions []*refv1.ServerReflectionRequest
	for _, service := range listed.GetListServicesResponse().GetService() {
		s.services = append(s.services, service.Name)

		if mayHave(service.Name, method) {
			questions = append(questions, &refv1.ServerReflectionRequest{
				MessageRequest: &refv1.ServerReflectionRequest_FileContainingSymbol{
					FileContainingSymbol: service.Name,
				},
			})
		}
	}

	size := 0
	sent := make(map[string]bool)

	for ; len(questions) > 0; questions = questions[1:] {
		if sent[questions[0].GetFileByFilename()] {
			continue
		}

		answer, err := ask(stream, questions[0])
		if err != nil {
			return nil, err
		}

		for _, raw := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
			file := new(descriptorpb.FileDescriptorProto)
			if err := proto.Unmarshal(raw, file); err != nil {
				return nil, fmt.Errorf("the server's reflection: %w", err)
			}

			size += len(raw)
			if size > maxReflected {
				return nil, fmt.Errorf("the server's reflection sends more than %d MiB",
					maxReflected>>20)
			}

			if sent[file.GetName()] {
				continue
			}

			sent[file.GetName()] = true
			set.File = append(set.File, file)

			for _, name := range file.Dependency {
				if !sent[name] {
					questions = append(questions, &refv1.ServerReflectionRequest{
						MessageRequest: &refv1.ServerReflectionRequest_FileByFilename{
							FileByFilename: name,
						},
					})
				}
			}
		}
	}

	s.Files, err = protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("the server's reflection: %w", err)
	}

	return &s, nil
}

// ask sends one request and returns its response.
func ask(
	stream grpc.ClientStream,
	question *refv1.ServerReflectionRequest,
) (*refv1.ServerReflectionResponse, error) {
	answer := new(refv1.ServerReflectionResponse)
	err := stream.SendMsg(question)
	if err == nil || errors.Is(err, io.EOF) { // RecvMsg returns the cause
		err = stream.RecvMsg(answer)
	}

	if wrong := answer.GetErrorResponse(); wrong != nil {
		return nil, fmt.Errorf("the server's reflection does not know %s%s: %s: give an image of its proto files by --schema",
			question.GetFileContainingSymbol(), question.GetFileByFilename(),
			wrong.ErrorMessage)
	}

	return answer, err
}

// mayHave reports whether a method's name, with or without its service, may
// name a method of a service.
func mayHave(service, method string) bool {
	named, _, ok := strings.Cut(method, "/")
	return !ok && !inventory.IsInfrastructure(service) ||
		ok && strings.HasSuffix("."+service, "."+named)
}

// Find returns the method named "package.Service/Method" or, if only one
// service has it, "Service/Method" or "Method".
func (s *Schema) Find(name string) (protoreflect.MethodDescriptor, error) {
	var found []protoreflect.MethodDescriptor

	known := slices.Clone(s.services) // names of the services, and of their methods
	for _, service := range s.services {
		if !mayHave(service, name) {
			continue
		}

		// nil if unknown
		d, _ := s.Files.FindDescriptorByName(protoreflect.FullName(service))
		described, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("the schema does not describe %s as a service",
				service)
		}

		for i := range described.Methods().Len() {
			method := described.Methods().Get(i)
			full := Path(method)
			known = append(known, full)

			if full == name {
				return method, nil
			}

			if Named(full, name) {
				found = append(found, method)
			}
		}
	}

	switch len(found) {
	case 0:
		return nil, fmt.Errorf("there is no method %s: want one of %s",
			name, output.SomeOf(known))
	case 1:
		return found[0], nil
	}

	return nil, fmt.Errorf("%s may be %s or %s: name the service",
		name, Path(found[0]), Path(found[1]))
}

// Named reports whether name, with or without its package and service, may be
// that of a method with this full name.
func Named(full, name string) bool {
	return strings.HasSuffix("."+full, "."+name) || strings.HasSuffix(full, "/"+name)
}

// Path returns a method as "package.Service/Method".
func Path(m protoreflect.MethodDescriptor) string {
	return string(m.Parent().FullName()) + "/" + string(m.Name())
}
