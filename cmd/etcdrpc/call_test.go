package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

func TestParseHeaders(t *testing.T) {
	md, err := parseHeaders([]string{"X-A: 1", "x-a:2", "key-bin: AAE=", "empty:"})
	if err != nil || !slices.Equal(md["x-a"], []string{"1", "2"}) || md["key-bin"][0] != "\x00\x01" || md["empty"][0] != "" {
		t.Errorf("%v, %v", md, err)
	}
	for _, bad := range []string{"", "x-a", ": 1", "x a: 1", "grpc-timeout: 1S", ":path: /", "x-bin: !", "x: ü", "x: a\nb"} {
		if md, err := parseHeaders([]string{bad}); err == nil {
			t.Errorf("%q is %v", bad, md)
		}
	}
}

// TestCall_LargeResponse takes a message that is larger than gRPC's own limit.
func TestCall_LargeResponse(t *testing.T) {
	t.Parallel()
	const size = 5 << 20
	addr := newUsersServer(t, &users{name: strings.Repeat("x", size)}, true)
	out, errs, code := callAt(t, etcdtest.Start(t), addr, "Users/GetUser", "-d", `{"id":"7"}`)
	if code != exitFine || len(out) < size {
		t.Errorf("it ends with %d and %d bytes: %s", code, len(out), errs)
	}
}

// TestCall_WithoutTimeout blames no --timeout where there is none.
func TestCall_WithoutTimeout(t *testing.T) {
	t.Parallel()
	late := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return status.Error(codes.DeadlineExceeded, "too late") }))
	if _, errs, code := callAt(t, etcdtest.Start(t), serveUntilEnd(t, late), "Users/GetUser", "--timeout", "0"); code != exitWrong || !strings.HasSuffix(errs, "too late\n") {
		t.Errorf("it ends with %d and says %s", code, errs)
	}
}

// callAt calls a method at the only instance of a service.
func callAt(t *testing.T, etcd *etcdtest.Cluster, addr string, args ...string) (out, errs string, code int) {
	t.Helper()
	putKey(t, etcd, "acme/user/a", addr)
	return executed(t, newApp(), append(at(etcd, "call", "acme/user", "--plaintext"), args...)...)
}

// liar is a reflection that knows one service, and answers for every file with what files says.
type liar struct {
	refv1.UnimplementedServerReflectionServer
	files func(name string) []*descriptorpb.FileDescriptorProto
}

func (l *liar) ServerReflectionInfo(stream refv1.ServerReflection_ServerReflectionInfoServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		answer := &refv1.ServerReflectionResponse{OriginalRequest: request}
		if request.GetListServices() != "" {
			answer.MessageResponse = &refv1.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: &refv1.ListServiceResponse{
				Service: []*refv1.ServiceResponse{{Name: "acme.Users"}},
			}}
		} else {
			files := new(refv1.FileDescriptorResponse)
			for _, file := range l.files(request.GetFileByFilename()) {
				raw, err := proto.Marshal(file)
				if err != nil {
					return err
				}
				files.FileDescriptorProto = append(files.FileDescriptorProto, raw)
			}
			answer.MessageResponse = &refv1.ServerReflectionResponse_FileDescriptorResponse{FileDescriptorResponse: files}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// TestCall_LyingReflection has the search for a method end where the files of a server do not, or are too many.
func TestCall_LyingReflection(t *testing.T) {
	t.Parallel()
	type files = []*descriptorpb.FileDescriptorProto
	file := func(name string, imports ...string) *descriptorpb.FileDescriptorProto {
		return &descriptorpb.FileDescriptorProto{Name: &name, Dependency: imports}
	}
	chain := func(n int) (all files) { // of which each imports the next
		for i := range n - 1 {
			all = append(all, file(fmt.Sprint(i), fmt.Sprint(i+1)))
		}
		return append(all, file(fmt.Sprint(n-1)))
	}
	backwards := chain(10_000)
	slices.Reverse(backwards)
	etcd := etcdtest.Start(t)
	more := 0
	for name, tc := range map[string]struct {
		files func(name string) files
		want  string
	}{
		"a circle": {func(name string) files {
			if name == "b.proto" {
				return files{file("b.proto", "c.proto", "a.proto")}
			}
			return files{file("a.proto", "b.proto")}
		}, "describes a file that imports itself: b.proto"},
		"a circle in one answer": {func(string) files {
			return files{file("a.proto", "b.proto", "b.proto"), file("b.proto"), file("c.proto", "b.proto", "d.proto"), file("d.proto", "c.proto")}
		}, "imports itself: c.proto"},
		"a file of itself": {func(string) files { return files{file("a.proto", "a.proto")} }, "imports itself: a.proto"},
		"no end": {func(string) files {
			more++
			return files{file(fmt.Sprint(more), fmt.Sprint(more+1))}
		}, "has given 10000 answers, and has not come to an end"},
		"a chain that is too long":    {func(string) files { return chain(10_001) }, "describes more than 10000 files"},
		"a long chain":                {func(string) files { return chain(10_000) }, "symbol not found: acme.Users"},
		"a long chain, its end first": {func(string) files { return backwards }, "symbol not found: acme.Users"},
		"another file than asked for": {func(string) files { return files{file("c.proto", "b.proto")} }, "has not come to an end"},
		"nothing":                     {func(string) files { return files{file("a.proto")} }, "symbol not found: acme.Users"},
	} {
		t.Run(name, func(t *testing.T) {
			server := grpc.NewServer()
			refv1.RegisterServerReflectionServer(server, &liar{files: tc.files})
			_, errs, code := callAt(t, etcd, serveUntilEnd(t, server), "Users/Get", "--timeout", "0")
			if code != exitWrong || !strings.Contains(errs, tc.want) {
				t.Errorf("it ends with %d and says %s", code, errs)
			}
		})
	}
}

// silentInput is standard input that says nothing until the test ends.
type silentInput struct {
	t    *testing.T
	read func() // is told of a read
}

func (s silentInput) Read([]byte) (int, error) {
	s.read()
	<-s.t.Context().Done()
	return 0, io.EOF
}

// TestCall_Ends has a call end with its time, and with the command, also while standard input says nothing.
func TestCall_Ends(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", newUsersServer(t, &users{}, true))
	const never, atRead, atDial = "", "read", "dial"
	for _, tc := range []struct {
		name        string
		args        []string
		interrupted string
		want        string // on standard error
	}{
		{"one request", []string{"Users/GetUser", "-d", "-", "--timeout", "2s"}, never, "DeadlineExceeded: .*--timeout is 2s"},
		{"one request, interrupted", []string{"Users/GetUser", "-d", "-"}, atRead, ": interrupted\n"},
		{"a stream, interrupted", []string{"Chat", "-d", "-"}, atRead, ": interrupted\n"},
		{"each, interrupted", []string{"Users/GetUser", "-d", "-", "--each"}, atRead, ": interrupted\n"},
		{"an answer, interrupted", []string{"ListUsers", "-d", `{"count":-1}`}, atDial, ": interrupted\n"},
		{"each answer, interrupted", []string{"ListUsers", "-d", `{"count":-1}`, "--each"}, atDial, ": interrupted\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			reached := func(what string) {
				if what == tc.interrupted {
					cancel()
				}
			}
			a := newApp()
			a.stdin = silentInput{t, func() { reached(atRead) }}
			a.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				reached(atDial)
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			var out, errs written
			code := make(chan int, 1)
			args := append(at(etcd, "call", "acme/user", "--plaintext"), tc.args...)
			go func() { code <- a.execute(ctx, args, &out, &errs) }()
			if got := ends(t, code); got != exitWrong || !regexp.MustCompile(tc.want).MatchString(errs.String()) || out.String() != "" {
				t.Errorf("it ends with %d, says %q, and writes %q", got, errs.String(), out.String())
			}
		})
	}
}
