package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	refv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	refv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// usersProto describes acme.Users and acme.Staff, both with a method Get.
const usersProto = `
name: "users.proto" package: "acme" syntax: "proto3" dependency: "google/protobuf/timestamp.proto"
message_type { name: "User"
  field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "name" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "count" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "since" number: 4 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
}
service { name: "Users"
  method { name: "Get" input_type: ".acme.User" output_type: ".acme.User" }
  method { name: "List" input_type: ".acme.User" output_type: ".acme.User" server_streaming: true }
  method { name: "Chat" input_type: ".acme.User" output_type: ".acme.User" server_streaming: true client_streaming: true }
}
service { name: "Staff" method { name: "Get" input_type: ".acme.User" output_type: ".acme.User" } }
`

// usersImage returns the image of users.proto.
func usersImage(t testing.TB) *descriptorpb.FileDescriptorSet {
	t.Helper()

	users := new(descriptorpb.FileDescriptorProto)
	must(t, prototext.Unmarshal([]byte(usersProto), users))
	timestamp, err := protoregistry.GlobalFiles.FindFileByPath("google/protobuf/timestamp.proto")
	must(t, err)

	return &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(timestamp), users}}
}

// serveUsers serves the methods of acme.Users: a response is the request with
// the given name, and List sends as many responses as the request's count. A
// call fails without an id, and every call fails if name is "". reflections
// names the versions of the reflection service to serve.
func serveUsers(t testing.TB, name, reflections string, opts ...grpc.ServerOption) (addr string) {
	t.Helper()

	files, err := protodesc.NewFiles(usersImage(t))
	must(t, err)
	found, err := files.FindDescriptorByName("acme.User")
	must(t, err)
	user := found.(protoreflect.MessageDescriptor)

	handle := func(_ any, stream grpc.ServerStream) error {
		m := dynamicpb.NewMessage(user)
		if err := stream.RecvMsg(m); err != nil {
			return err
		}

		if name == "" {
			return status.Error(codes.Internal, "the disk\n\x1b[2Jis full")
		}

		if m.Get(user.Fields().ByName("id")).String() == "" {
			st := status.New(codes.InvalidArgument, "no id")
			st, err := st.WithDetails(&errdetails.BadRequest{
				FieldViolations: []*errdetails.BadRequest_FieldViolation{
					{Field: "id", Description: "is empty"},
				},
			})
			if err != nil {
				return err
			}

			return st.Err()
		}

		answer := name

		md, _ := metadata.FromIncomingContext(stream.Context())
		if len(md.Get("x-name")) > 0 {
			answer = md.Get("x-name")[0]
		}

		m.Set(user.Fields().ByName("name"), protoreflect.ValueOfString(answer))

		for range max(1, m.Get(user.Fields().ByName("count")).Int()) {
			if err := stream.SendMsg(m); err != nil {
				return err
			}
		}

		return nil
	}

	server := grpc.NewServer(opts...)

	users := &grpc.ServiceDesc{ServiceName: "acme.Users", HandlerType: (*any)(nil)}
	for _, method := range []string{"Get", "List", "Chat"} {
		users.Streams = append(users.Streams, grpc.StreamDesc{
			StreamName:    method,
			Handler:       handle,
			ClientStreams: true,
			ServerStreams: true,
		})
	}

	server.RegisterService(users, nil)
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "acme.Staff", HandlerType: (*any)(nil)},
		nil)
	reflected := reflection.ServerOptions{Services: server, DescriptorResolver: files}

	switch reflections {
	case "v1":
		refv1.RegisterServerReflectionServer(server, reflection.NewServerV1(reflected))
	case "v1alpha":
		refv1alpha.RegisterServerReflectionServer(server, reflection.NewServer(reflected))
	}

	return serveUntilEnd(t, server)
}

// TestCall calls servers of each kind with each set of flags.
func TestCall(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	image, err := proto.Marshal(usersImage(t))
	must(t, err)
	schema := tempFile(t, "users.binpb", image)
	ca := newAuthority(t)
	tls := grpc.Creds(credentials.NewTLS(ca.issuer("acme.tls", time.Now().Add(time.Hour))))
	addrs := map[string]string{}
	put := func(key, instance, addr string) {
		addrs[key] = addr
		putKey(t, etcd, key+"/"+instance, fmt.Sprintf(`{"Addr":%q}`, addr), renewed(t, etcd))
	}

	put("acme/user", "a", serveUsers(t, "Ada", "v1"))
	put("acme/old", "a", serveUsers(t, "Ada", "v1alpha"))
	put("acme/mute", "a", serveUsers(t, "Ada", ""))
	put("acme/tls", "a", serveUsers(t, "Ada", "v1", tls))
	put("acme/hostile", "a", serveUsers(t, "\x1b[2J\u202eAda", "v1"))
	put("acme/two", "a", addrs["acme/user"])
	put("acme/two", "b", serveUsers(t, "", "v1"))
	putKey(t, etcd, "_grpc_config/acme/two",
		`{"loadBalancingConfig":[{"etcd":{"drain":["b"],"childPolicy":[{"round_robin":{}}]}}]}`)
	const id, ada = `{"id":"7"}`, "{\n  \"id\": \"7\",\n  \"name\": \"Ada\"\n}\n"

	line := func(name, more string) string { // a line of --each's output
		return fmt.Sprintf(`{"instance":"a","addr":%q,"response":{"id":"7","name":%q%s}}`+"\n",
			addrs["acme/user"], name, more)
	}
	for _, tc := range []struct {
		args  string // separated by blanks
		stdin string
		code  int
		out   string
		says  string // a part of standard error
	}{
		{"acme/user acme.Users/Get " + id + " --plaintext", "", exitFine, ada, "Calling a.\n"},
		{"acme/user Users/Get - --plaintext", id, exitFine, ada, ""},
		{"acme/old List " + id + " --plaintext", "", exitFine, ada, ""},
		{"acme/mute List " + id + " --plaintext --schema " + schema, "", exitFine, ada, ""},
		{"acme/mute List " + id + " --plaintext", "", exitWrong, "",
			"the server has no reflection: give an image of its proto files by --schema"},
		{"acme/mute List " + id + " --plaintext --schema missing", "", exitWrong, "",
			"--schema missing: "},
		{"acme/mute List " + id + " --plaintext --schema " + ca.file(t), "", exitWrong, "",
			"the file is not an image of proto files"},
		{`acme/user List {"id":"7","count":2} --plaintext --each`, "", exitFine,
			strings.Repeat(line("Ada", `,"count":2`), 2), ""},
		{`acme/user List {"id":"7","since":"2026-01-01T00:00:00Z"} --plaintext --each`, "",
			exitFine, line("Ada", `,"since":"2026-01-01T00:00:00Z"`), ""},
		{"acme/user List " + id + " --plaintext --each -H X-Name:Bob", "", exitFine,
			line("Bob", ""), ""},
		{"acme/hostile List " + id + " --plaintext", "", exitFine,
			strings.Replace(ada, "Ada", `\u001b[2J\u202eAda`, 1), ""},
		{"acme/tls List " + id + " --service-cacert " + ca.file(t), "", exitFine, ada, ""},
		{"acme/tls List " + id, "", exitWrong, "", "--service-cacert names the CA"},
		{"acme/tls List " + id + " --plaintext", "", exitWrong, "",
			"if it speaks TLS, leave out --plaintext"},
		{"acme/user List " + id, "", exitWrong, "",
			"it does not speak TLS: --plaintext calls it without"},
		{"acme/user Get --plaintext", "", exitWrong, "",
			"Get may be acme.Staff/Get or acme.Users/Get: name the service"},
		{"acme/user Gat --plaintext", "", exitWrong, "",
			"there is no method Gat: want one of acme.Staff, acme.Users, grpc.reflection.v1.ServerReflection, acme.Staff/Get, "},
		{"acme/user Users/Get --plaintext", "", exitWrong, "", `InvalidArgument: no id
{
  "@type": "type.googleapis.com/google.rpc.BadRequest",
  "fieldViolations": [
    {
      "field": "id",`},
		{"acme/user Users/Get x --plaintext", "", exitUsage, "",
			"the request is not a valid acme.User: "},
		{"acme/tls Chat --service-cacert " + ca.file(t), "", exitWrong, "",
			"grpcurl -authority acme.tls -cacert /"},
		{"acme/user Chat --plaintext", "", exitWrong, "",
			"grpcurl -authority acme.user -plaintext -d @ " + addrs["acme/user"] +
				" acme.Users/Chat\n"},
		{"acme/user List --plaintext -H x", "", exitUsage, "",
			`--header: "x" is not 'name: value'`},
		{"acme/user List --plaintext --each --instance a", "", exitUsage, "",
			"none of the others can be"},
		{"acme/user List --plaintext --timeout 0s", "", exitWrong, "", "DeadlineExceeded"},
		{"acme/none List --plaintext", "", exitWrong, "",
			"no instance that clients call is registered"},
		{"acme/two List " + id + " --plaintext --instance c", "", exitWrong, "",
			"no such instance is registered: want one of a, b"},
		{"acme/two List " + id + " --plaintext", "", exitFine, ada, "Calling a.\n"}, // b is drained
		{"acme/two List " + id + " --plaintext --instance b", "", exitWrong, "",
			`Internal: the disk\n\x1b[2Jis full`},
		{"acme/two List " + id + " --plaintext --each", "", exitWrong, line("Ada", "") +
			`{"instance":"b","addr":"` + addrs["acme/two"] +
			`","error":"Internal: the disk\n\u001b[2Jis full"}` +
			"\n", "1 of 2 instances failed.\n"},
	} {
		a := newApp()
		a.stdin = strings.NewReader(tc.stdin)

		out, errs, code := executed(t, a,
			at(etcd, append([]string{"call"}, strings.Fields(tc.args)...)...)...)
		if code != tc.code || out != tc.out || !strings.Contains(errs, tc.says) {
			t.Errorf("%s: code %d, output\n%s\nmessages\n%s\nwant %d, output\n%s\nmessages\n%s",
				tc.args, code, out, errs, tc.code, tc.out, tc.says)
		}
	}
}
