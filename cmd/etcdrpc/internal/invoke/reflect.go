package invoke

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Bounds of what is taken from a server's reflection. Each answer may lead to another question, and each file takes a step
// of the stack where it imports the next.
const (
	maxReflections = 10_000
	maxFiles       = 10_000
	maxReflected   = maxResponse // bytes of all answers
)

// reflected is a connection whose server is asked for its descriptors. It ends that where files import themselves, which
// the client of reflection would follow until the stack is full.
type reflected struct {
	grpc.ClientConnInterface
	imports map[string][]string // of the files that the server has sent
	answers int
	bytes   int
	err     error // why the server is asked no more
}

func (r *reflected) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := r.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	return reflectedStream{stream, r}, err
}

type reflectedStream struct {
	grpc.ClientStream
	to *reflected
}

func (s reflectedStream) RecvMsg(message any) error {
	if err := s.ClientStream.RecvMsg(message); err != nil {
		return err
	}
	if s.to.err == nil {
		s.to.err = s.to.check(message)
	}
	return s.to.err
}

// check takes in an answer of either version of reflection, whose messages are the same on the wire.
func (r *reflected) check(message any) error {
	if r.answers++; r.answers > maxReflections {
		return fmt.Errorf("its reflection has given %d answers, and has not come to an end", maxReflections)
	}
	raw, err := proto.Marshal(message.(proto.Message))
	if err != nil {
		return err
	}
	if r.bytes += len(raw); r.bytes > maxReflected {
		return fmt.Errorf("its reflection has sent more than %d MiB, and has not come to an end", maxReflected>>20)
	}
	var answer refv1.ServerReflectionResponse
	if err := proto.Unmarshal(raw, &answer); err != nil {
		return err
	}
	var news []string
	for _, raw := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(raw, &file); err != nil {
			return err
		}
		if _, known := r.imports[file.GetName()]; known {
			continue // the first of a name counts
		}
		if len(r.imports) == maxFiles {
			return fmt.Errorf("its reflection describes more than %d files", maxFiles)
		}
		r.imports[file.GetName()] = file.GetDependency()
		news = append(news, file.GetName())
	}
	if circular := r.circular(news); circular != "" {
		return fmt.Errorf("its reflection describes a file that imports itself: %s", circular)
	}
	return nil
}

// circular returns the first file that is found to import itself, by way of others or not, from one of some files on; ""
// if there is none. It looks at each file once, however many lead there.
func (r *reflected) circular(from []string) string {
	open := make(map[string]bool) // false once all that a file imports has been looked at
	var follow func(files []string) string
	follow = func(files []string) string {
		for _, name := range files {
			imports, sent := r.imports[name]
			under, seen := open[name]
			switch {
			case under:
				return name
			case seen || !sent:
				continue
			}
			open[name] = true
			if found := follow(imports); found != "" {
				return found
			}
			open[name] = false
		}
		return ""
	}
	return follow(from)
}
