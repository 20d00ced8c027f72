package invoke

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxReflections bounds the answers that are taken from a server's reflection, for each may lead to another question.
const maxReflections = 10_000

// reflected is a connection whose server is asked for its descriptors. It ends that where files import themselves, which
// the client of reflection would follow until the stack is full.
type reflected struct {
	grpc.ClientConnInterface
	imports map[string][]string // of the files that the server has sent
	answers int
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
	var answer refv1.ServerReflectionResponse
	if err := proto.Unmarshal(raw, &answer); err != nil {
		return err
	}
	for _, raw := range answer.GetFileDescriptorResponse().GetFileDescriptorProto() {
		var file descriptorpb.FileDescriptorProto
		if err := proto.Unmarshal(raw, &file); err != nil {
			return err
		}
		if _, known := r.imports[file.GetName()]; known {
			continue // the first of a name counts
		}
		r.imports[file.GetName()] = file.GetDependency()
		if r.importsItself(file.GetName()) {
			return fmt.Errorf("its reflection describes a file that imports itself: %s", file.GetName())
		}
	}
	return nil
}

// importsItself reports whether a file imports itself, by way of others or not.
func (r *reflected) importsItself(name string) bool {
	seen := make(map[string]bool)
	for next := slices.Clone(r.imports[name]); len(next) > 0; {
		file := next[len(next)-1]
		next = next[:len(next)-1]
		if file == name {
			return true
		}
		if !seen[file] {
			seen[file] = true
			next = append(next, r.imports[file]...)
		}
	}
	return false
}
