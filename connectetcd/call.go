package connectetcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // Connect's clients accept gzip, and send it if told to
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// A call is a request of a Connect client, as gRPC takes it.
type call struct {
	ctx      context.Context // with the metadata to send
	request  *http.Request
	body     io.ReadCloser
	method   string          // "/acme.user.v1.UserService/GetUser"
	desc     grpc.StreamDesc // both ways if the method is not known
	codec    codec
	encoding string // of messages that are marked as compressed, "" for none
}

// newCall returns the call for a request, or an error that says what is not gRPC's. The call has a body either way.
func newCall(req *http.Request) (*call, error) {
	c := &call{request: req, body: req.Body, method: req.URL.Path}
	if c.body == nil {
		c.body = http.NoBody
	}
	subtype, err := checkProtocol(req)
	if err != nil {
		return c, connect.NewError(connect.CodeUnimplemented, err)
	}
	c.codec = codec(subtype)
	if strings.Count(c.method, "/") != 2 || !strings.HasPrefix(c.method, "/") {
		return c, connect.NewError(connect.CodeInternal, fmt.Errorf("connectetcd: the path %q is no method: want /package.Service/Method, and no path in the client's base URL", c.method))
	}
	c.desc = streamDesc(c.method)
	if name := req.Header.Get("Grpc-Encoding"); name != "identity" {
		c.encoding = name
	}
	md, err := toMetadata(req.Header)
	if err != nil {
		return c, connect.NewError(connect.CodeInternal, err)
	}
	c.ctx = metadata.NewOutgoingContext(req.Context(), md)
	if key := affinityOf(req.Context()); key != "" {
		c.ctx = runtime.WithAffinity(c.ctx, key)
	}
	return c, nil
}

// checkProtocol returns the codec's name if the request is gRPC's, and otherwise an error with the protocol that it is of.
func checkProtocol(req *http.Request) (codec string, err error) {
	const cure = "the connection speaks gRPC alone: make the client with connect.WithGRPC, and set no other protocol after that"
	if req.Method != http.MethodPost {
		return "", fmt.Errorf("connectetcd: a %.10s request, as the Connect protocol has them: %s", req.Method, cure)
	}
	contentType, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	const prefix = "application/grpc"
	switch rest, ok := strings.CutPrefix(contentType, prefix); {
	case ok && rest == "":
		return "proto", nil
	case ok && strings.HasPrefix(rest, "+"):
		return rest[1:], nil
	case ok && (rest == "-web" || strings.HasPrefix(rest, "-web+") || strings.HasPrefix(rest, "-web-")):
		return "", fmt.Errorf("connectetcd: the client speaks the gRPC-Web protocol: %s", cure)
	}
	return "", fmt.Errorf("connectetcd: the client speaks the Connect protocol (content type %.100q): %s", contentType, cure)
}

// streamDesc returns which sides of a method stream: both if no descriptor of it is linked.
func streamDesc(method string) grpc.StreamDesc {
	name := protoreflect.FullName(strings.Replace(method[1:], "/", ".", 1))
	found, _ := protoregistry.GlobalFiles.FindDescriptorByName(name) // an error: there is none
	if desc, ok := found.(protoreflect.MethodDescriptor); ok {
		return grpc.StreamDesc{ServerStreams: desc.IsStreamingServer(), ClientStreams: desc.IsStreamingClient()}
	}
	return grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
}

// options returns the options of the call on the gRPC connection.
func (c *call) options() []grpc.CallOption {
	opts := make([]grpc.CallOption, 0, 4) // unary adds two
	opts = append(opts, grpc.ForceCodecV2(c.codec))
	if encoding.GetCompressor(c.encoding) != nil {
		opts = append(opts, grpc.UseCompressor(c.encoding))
	}
	return opts
}

// onlyMessage returns the one message of the request, and closes the body.
func (c *call) onlyMessage() ([]byte, error) {
	defer c.body.Close()
	message, err := c.nextMessage()
	if errors.Is(err, io.EOF) {
		return nil, status.Errorf(codes.Internal, "connectetcd: the request of %s has no message", c.method)
	}
	if err == nil && c.request.ContentLength != int64(envelopeLen+len(message)) { // it is -1, or of a compressed message
		if _, more := c.nextMessage(); !errors.Is(more, io.EOF) {
			return nil, status.Errorf(codes.Internal, "connectetcd: the request of %s has more than one message", c.method)
		}
	}
	return message, err
}

// nextMessage returns the next message of the request, uncompressed, or io.EOF.
func (c *call) nextMessage() ([]byte, error) {
	message, compressed, err := readEnvelope(c.body)
	switch {
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	case err != nil:
		return nil, status.Errorf(codes.Internal, "connectetcd: read the request of %s: %v", c.method, err)
	case !compressed:
		return message, nil
	}
	compressor := encoding.GetCompressor(c.encoding)
	if compressor == nil {
		return nil, status.Errorf(codes.Unimplemented,
			"connectetcd: gRPC has no compressor %q: register one with google.golang.org/grpc/encoding, or leave connect.WithSendCompression out", c.encoding)
	}
	if message, err = decompress(compressor, message); err != nil {
		return nil, status.Errorf(codes.Internal, "connectetcd: unpack a message of %s with %q: %v", c.method, c.encoding, err)
	}
	return message, nil
}
