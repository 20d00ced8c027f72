package connectetcd

import (
	"bytes"
	"cmp"
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

// A call is a request of a Connect client in the form that gRPC needs.
type call struct {
	ctx      context.Context // with the metadata to send
	request  *http.Request
	body     io.ReadCloser
	method   string          // "/acme.user.v1.UserService/GetUser"
	desc     grpc.StreamDesc // both ways if the method is not known
	codec    codec
	encoding string // of messages that are marked as compressed, "" for none
}

// newCall returns the gRPC call of a request, or an error if there is none that it could mean.
func newCall(req *http.Request) (*call, error) {
	subtype, err := checkProtocol(req)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnimplemented, err)
	}
	c := &call{request: req, body: req.Body, method: req.URL.Path, codec: codec(subtype), encoding: req.Header.Get("Grpc-Encoding")}
	if c.body == nil {
		c.body = http.NoBody
	}
	if strings.Count(c.method, "/") != 2 || !strings.HasPrefix(c.method, "/") {
		return nil, connect.NewError(connect.CodeInternal, fmt.Errorf("connectetcd: the path %q is not a method: want /package.Service/Method, and no path in the client's base URL", c.method))
	}
	c.desc = streamDesc(c.method)
	md, err := toMetadata(req.Header)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	c.ctx = metadata.NewOutgoingContext(req.Context(), md)
	if key := affinityOf(req.Context()); key != "" {
		c.ctx = runtime.WithAffinity(c.ctx, key)
	}
	return c, nil
}

// checkProtocol returns the codec's name if the request is one of the gRPC protocol.
func checkProtocol(req *http.Request) (codec string, err error) {
	contentType, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	if subtype, ok := strings.CutPrefix(contentType, "application/grpc"); ok && req.Method == http.MethodPost {
		if codec, ok := strings.CutPrefix(subtype, "+"); ok || subtype == "" {
			return cmp.Or(codec, "proto"), nil
		}
	}
	return "", fmt.Errorf("connectetcd: a %.10s request with the content type %.100q is of another protocol than gRPC: make the client with connect.WithGRPC, and set no other protocol after that", req.Method, contentType)
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
		return nil, status.Errorf(codes.Internal, "connectetcd: the request of %s has no message: send one", c.method)
	}
	if err != nil || c.request.ContentLength == int64(prefixLen+len(message)) { // the length proves that this is all
		return message, err
	}
	switch _, err := c.nextMessage(); {
	case errors.Is(err, io.EOF):
		return message, nil
	case err != nil:
		return nil, err
	}
	return nil, status.Errorf(codes.Internal, "connectetcd: the request of %s has more than one message: send one", c.method)
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
	// No size limit is needed: the message comes from this process.
	unpacked, err := compressor.Decompress(bytes.NewReader(message))
	if err == nil {
		message, err = io.ReadAll(unpacked)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "connectetcd: unpack a message of %s with %q: %v", c.method, c.encoding, err)
	}
	return message, nil
}

// send sends the messages of the request's body. It returns at the end of the body or of the call.
func (c *call) send(stream grpc.ClientStream, cancel context.CancelCauseFunc) {
	for {
		message, err := c.nextMessage()
		switch {
		case errors.Is(err, io.EOF):
			_ = stream.CloseSend() // the receiver gets its error
			return
		case err != nil:
			cancel(sendError{err})
			return
		}
		if stream.SendMsg(message) != nil { // as above
			_ = c.body.Close()
			return
		}
	}
}

// sendError is the cause of the end of a call whose request could not be sent.
type sendError struct{ error }
