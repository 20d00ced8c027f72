package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/invoke"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const (
	usersProto  = "acme/user/v1/users.proto"
	protoDir    = "testdata/proto"
	certificate = "acme.user" // the name that the key acme/user gives
)

// usersSchema is that of the services that the tests call.
func usersSchema(t testing.TB) *invoke.Schema {
	t.Helper()
	s, err := invoke.CompileProtos(t.Context(), []string{usersProto}, []string{protoDir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// users serves the services of users.proto.
type users struct {
	broken bool   // every call fails
	name   string // of every user
}

// newUsersServer starts a server, with reflection or without.
func newUsersServer(t testing.TB, u *users, reflects bool, opts ...grpc.ServerOption) (addr string) {
	t.Helper()
	server, s := grpc.NewServer(opts...), usersSchema(t)
	for _, name := range s.Services {
		described, err := s.Service(name)
		if err != nil {
			t.Fatal(err)
		}
		desc := &grpc.ServiceDesc{ServiceName: string(name), HandlerType: (*any)(nil)}
		for i := range described.Methods().Len() {
			method := described.Methods().Get(i)
			desc.Streams = append(desc.Streams, grpc.StreamDesc{
				StreamName: string(method.Name()), ClientStreams: true, ServerStreams: true,
				Handler: func(_ any, stream grpc.ServerStream) error { return u.serve(method, stream) },
			})
		}
		server.RegisterService(desc, u)
	}
	if reflects {
		refv1.RegisterServerReflectionServer(server, reflection.NewServerV1(reflection.ServerOptions{Services: server, DescriptorResolver: s.Resolver}))
	}
	return serveUntilEnd(t, server)
}

// serve answers each request with as many users as the method has to.
func (u *users) serve(method protoreflect.MethodDescriptor, stream grpc.ServerStream) error {
	if u.broken {
		return status.Error(codes.Internal, "the disk\nis full")
	}
	field := func(m *dynamicpb.Message, name protoreflect.Name) protoreflect.FieldDescriptor {
		return m.Descriptor().Fields().ByName(name)
	}
	answer := func(id string) error {
		user := dynamicpb.NewMessage(method.Output())
		user.Set(field(user, "id"), protoreflect.ValueOfString(id))
		user.Set(field(user, "name"), protoreflect.ValueOfString(u.name))
		md, _ := metadata.FromIncomingContext(stream.Context())
		if callers := append(md.Get("x-caller"), md.Get(serviceconfig.LaneHeader)...); len(callers) > 0 {
			user.Set(field(user, "caller"), protoreflect.ValueOfString(callers[0]))
		}
		return stream.SendMsg(user)
	}
	for n := int32(0); ; n++ {
		request := dynamicpb.NewMessage(method.Input())
		err := stream.RecvMsg(request)
		switch {
		case errors.Is(err, io.EOF) && method.Name() == "ImportUsers":
			response := dynamicpb.NewMessage(method.Output())
			response.Set(field(response, "count"), protoreflect.ValueOfInt32(n))
			return stream.SendMsg(response)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		switch method.Name() {
		case "ListUsers":
			count := request.Get(field(request, "count")).Int()
			for i := range count {
				if err := answer(fmt.Sprint(i)); err != nil {
					return err
				}
			}
			if count < 0 { // never ends
				<-stream.Context().Done()
				return stream.Context().Err()
			}
		case "GetUser", "Chat":
			id := request.Get(field(request, "id")).String()
			if id == "" {
				return refusal()
			}
			if err := answer(id); err != nil {
				return err
			}
		}
	}
}

// refusal has a detail.
func refusal() error {
	st, err := status.New(codes.InvalidArgument, "no id").WithDetails(&errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "id", Description: "is empty"}},
	})
	if err != nil {
		return err
	}
	return st.Err()
}

// serveUntilEnd serves until the test ends.
func serveUntilEnd(t testing.TB, server *grpc.Server) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // nil after it is stopped
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return listener.Addr().String()
}

// usersCmd starts a server of users and sets a variable to its address: users NAME [broken] [noreflection] [tls] [expired]. The
// authority of its certificate is in the file NAME.pem.
func usersCmd(ts *testscript.TestScript, _ bool, args []string) {
	t, has := in(ts).t, func(word string) bool { return slices.Contains(args[1:], word) }
	var opts []grpc.ServerOption
	if has("tls") {
		ca := newAuthority(t)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), ca.pem(), 0o600))
		ends := time.Now().Add(time.Hour)
		if has("expired") {
			ends = time.Now().Add(-time.Hour)
		}
		opts = append(opts, grpc.Creds(credentials.NewTLS(ca.issuer(certificate, ends))))
	}
	ts.Setenv(args[0], newUsersServer(t, &users{broken: has("broken"), name: "Ada"}, !has("noreflection"), opts...))
}
