package connectetcd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // Connect's clients accept gzip
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// A call is a request of a Connect client in the form that gRPC needs.
type call struct {
	ctx     context.Context // carries the metadata to send
	request *http.Request
	body    io.ReadCloser
	method  string          // "/acme.user.v1.UserService/GetUser"
	desc    grpc.StreamDesc // describes a bidirectional stream if the method is unknown
	codec   codec
}

// newCall converts an HTTP request to a gRPC call. It fails if the protocol or a header is not valid in gRPC.
func newCall(req *http.Request) (*call, error) {
	codec, err := codecOf(req.Header)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnimplemented, err)
	}
	md, err := toMetadata(req.Header)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}

	c := &call{request: req, body: req.Body, method: req.URL.Path, codec: codec}
	name := protoreflect.FullName(strings.Replace(c.method[1:], "/", ".", 1))
	found, _ := protoregistry.GlobalFiles.FindDescriptorByName(name) // an error means no descriptor
	desc, ok := found.(protoreflect.MethodDescriptor)
	c.desc = grpc.StreamDesc{ServerStreams: !ok || desc.IsStreamingServer(), ClientStreams: !ok || desc.IsStreamingClient()}

	c.ctx = metadata.NewOutgoingContext(req.Context(), md)
	key, given := runtime.Affinity(c.ctx)
	if ofRequest, ok := c.ctx.Value(affinityKey{}).(*string); ok && !given {
		key = *ofRequest
	}
	if key != "" {
		c.ctx = runtime.WithAffinity(c.ctx, key) // again, because md has no header of the context's affinity
	}
	return c, nil
}

// codecOf returns the codec of a request with the given header. It fails unless the request uses the gRPC protocol, without
// compression by Connect: gRPC would send compressed bytes as a message.
func codecOf(header http.Header) (codec, error) {
	if name := header.Get("Grpc-Encoding"); name != "" {
		return "", fmt.Errorf("connectetcd: gRPC compresses requests: replace connect.WithSendCompression by grpc.WithDefaultCallOptions(grpc.UseCompressor(%q))", name)
	}
	contentType := header.Get("Content-Type")
	if contentType == "application/grpc" {
		return "proto", nil
	}
	if name, ok := strings.CutPrefix(contentType, "application/grpc+"); ok {
		return codec(name), nil
	}
	return "", fmt.Errorf("connectetcd: the content type %.100q is of another protocol than gRPC: make the client with connect.WithGRPC, without another protocol's option after it", contentType)
}

// send sends the messages of the body. It returns at the end of the body or of the call.
func (c *call) send(stream grpc.ClientStream, cancel context.CancelFunc) {
	for {
		message, err := readMessage(c.body)
		switch {
		case errors.Is(err, io.EOF):
			_ = stream.CloseSend() // if it fails, RecvMsg returns the error
			return
		case err != nil:
			cancel()
			return
		}

		if stream.SendMsg(message) != nil { // RecvMsg returns the error
			_ = c.body.Close()
			return
		}
	}
}

// response returns the response to a call. The caller sets its trailers once the call has ended.
func (c *call) response(header metadata.MD, body io.ReadCloser) *http.Response {
	h := make(http.Header, len(header)+1)
	addMetadata(h, header)
	if sent := header.Get("content-type"); len(sent) > 0 {
		h.Set("Content-Type", sent[0])
	} else { // the call has failed before the server sent headers
		h.Set("Content-Type", "application/grpc+"+string(c.codec))
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: h, Body: body, Trailer: make(http.Header), ContentLength: -1, Request: c.request,
	}
}

// errorResponse returns the response to a call that no server has answered.
func (c *call) errorResponse(err error) *http.Response {
	response := c.response(nil, http.NoBody)
	setTrailers(response.Trailer, nil, err)
	return response
}

// setTrailers sets the trailers of a call that has ended with err, nil for OK.
func setTrailers(header http.Header, trailer metadata.MD, err error) {
	addMetadata(header, trailer)
	s := status.Convert(err)
	header.Set("Grpc-Status", strconv.Itoa(int(s.Code())))
	if err == nil {
		return
	}

	header.Set("Grpc-Message", url.PathEscape(s.Message()))
	if details, err := proto.Marshal(s.Proto()); err == nil { // omits details that cannot be encoded
		header.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
	}
}

// A streamBody is the body of a response that receives messages as it is read.
type streamBody struct {
	stream  grpc.ClientStream
	cancel  context.CancelFunc // ends the call
	trailer http.Header        // filled at the end of the call

	rest  io.Reader // the unread part of the last message
	ended bool
}

// Read returns io.EOF after the last message, also if the call fails: the status is in the trailers.
func (b *streamBody) Read(p []byte) (int, error) {
	for !b.ended {
		if n, err := b.rest.Read(p); n > 0 || err == nil {
			return n, nil
		}
		err := b.stream.RecvMsg(&b.rest)
		if err == nil {
			continue
		}

		if errors.Is(err, io.EOF) {
			err = nil
		}
		setTrailers(b.trailer, b.stream.Trailer(), err)
		b.ended = true
		b.cancel()
	}
	return 0, io.EOF
}

// Close ends the call if it has not ended.
func (b *streamBody) Close() error {
	b.cancel()
	return nil
}

// readMessage reads a message from a body, after its prefix: a byte of flags and four of length. It returns io.EOF at the end of the
// body. See https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
func readMessage(body io.Reader) ([]byte, error) {
	var prefix [5]byte
	if _, err := io.ReadFull(body, prefix[:]); err != nil {
		return nil, err
	}

	message := make([]byte, binary.BigEndian.Uint32(prefix[1:])) // not bounded: this process has the message in memory
	if _, err := io.ReadFull(body, message); err != nil {
		return nil, fmt.Errorf("a message of %d bytes: %w", len(message), io.ErrUnexpectedEOF)
	}
	return message, nil
}

// A codec passes messages through unchanged, because Connect has encoded them. Its value is the name of Connect's codec, which
// gRPC sends as the content subtype.
type codec string

func (c codec) Name() string { return string(c) }

// Marshal returns the message without a copy, because nothing changes the message afterwards.
func (codec) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(message.([]byte))}, nil
}

// Unmarshal makes message, an *io.Reader, read the message with its prefix.
func (codec) Unmarshal(data mem.BufferSlice, message any) error {
	prefix := binary.BigEndian.AppendUint32([]byte{0}, uint32(data.Len())) // gRPC's length field has 32 bits
	*message.(*io.Reader) = io.MultiReader(bytes.NewReader(prefix), data.Reader())
	return nil
}
