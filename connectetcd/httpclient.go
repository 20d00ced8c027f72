package connectetcd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // Connect's clients accept gzip
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// NewHTTPClient returns an HTTP client that makes the calls of Connect clients
// on conn, usually a connection of [runtime.Registry.NewClient]. It is safe for
// concurrent use, and does not close conn.
//
// Make the Connect client with connect.WithGRPC: requests of other protocols
// fail with connect.CodeUnimplemented. The base URL must have no path, and its
// scheme and host are ignored. connect.IsWireError returns true for every error
// of a call.
//
// Headers that HTTP or gRPC set themselves, such as User-Agent and
// Grpc-Timeout, are not sent: use grpc.WithUserAgent and the context's
// deadline. A reply message may have 4 MiB, or grpc.MaxCallRecvMsgSize, and at
// most connect.WithReadMaxBytes. To compress requests, use grpc.UseCompressor:
// calls with connect.WithSendCompression fail. connect.WithAcceptCompression
// has no effect.
//
// Unary calls pass through the connection's unary interceptors, and all others
// through its stream interceptors. A method whose descriptor is not linked into
// the program is called as a bidirectional stream. If a call streams requests,
// its interceptors run in goroutines of Connect and of this package, so a panic
// in one ends the process.
func NewHTTPClient(conn grpc.ClientConnInterface) connect.HTTPClient {
	return httpClient{conn}
}

type httpClient struct {
	conn grpc.ClientConnInterface
}

// Do implements [connect.HTTPClient]. It returns an error only for a request
// that is not a gRPC call. The status of a call, successful or not, is in the
// trailers of the response.
func (c httpClient) Do(req *http.Request) (*http.Response, error) {
	call, err := newCall(req)
	if err != nil {
		_ = req.Body.Close() // as http.RoundTripper requires, also after an error
		return nil, err
	}

	if call.desc.ClientStreams || call.desc.ServerStreams {
		return c.stream(call), nil
	}

	return c.unary(call), nil
}

// repeatable lets gRPC repeat a call of any size. A repetition is needed if a
// net/http server stops before it has begun the call. The call's only message
// is in memory anyway.
var repeatable = grpc.MaxRetryRPCBufferSize(math.MaxInt)

func (c httpClient) unary(call *call) *http.Response {
	defer call.body.Close()

	message, err := readMessage(call.body)
	if err != nil {
		return call.errorResponse(status.Errorf(codes.Internal,
			"connectetcd: read the request of %s: %v", call.method, err))
	}

	var header, trailer metadata.MD
	var reply io.Reader = http.NoBody

	err = c.conn.Invoke(
		call.ctx, call.method, message, &reply,
		grpc.ForceCodecV2(call.codec), repeatable,
		grpc.Header(&header), grpc.Trailer(&trailer),
	)
	if err != nil {
		reply = http.NoBody
	}

	response := call.response(header, io.NopCloser(reply))
	setTrailers(response.Trailer, trailer, err)

	return response
}

// stream makes a call that streams its requests, its replies, or both.
func (c httpClient) stream(call *call) *http.Response {
	ctx, cancel := context.WithCancel(call.ctx)

	// At the end of the call, Close unblocks send and the writer of the body.
	context.AfterFunc(ctx, func() { _ = call.body.Close() })

	opts := []grpc.CallOption{grpc.ForceCodecV2(call.codec)}
	if !call.desc.ClientStreams {
		opts = append(opts, repeatable)
	}

	stream, err := c.conn.NewStream(ctx, &call.desc, call.method, opts...)
	if err != nil {
		cancel()
		return call.errorResponse(err)
	}

	if call.desc.ClientStreams {
		go call.send(stream, cancel)
	} else {
		call.send(stream, cancel) // the body has the only message already
	}

	header, _ := stream.Header() // if it fails, RecvMsg returns the error
	response := call.response(header, nil)
	response.Body = &streamBody{
		stream:  stream,
		cancel:  cancel,
		trailer: response.Trailer,
		rest:    http.NoBody,
	}

	return response
}

// A call is a request of a Connect client in the form that gRPC needs.
type call struct {
	ctx    context.Context // carries the metadata to send
	body   io.ReadCloser
	method string          // "/acme.user.v1.UserService/GetUser"
	desc   grpc.StreamDesc // of a bidirectional stream if the method is unknown
	codec  codec
}

// newCall converts an HTTP request to a gRPC call. It fails if the protocol or
// a header is not valid in gRPC.
func newCall(req *http.Request) (*call, error) {
	codec, err := codecOf(req.Header)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnimplemented, err)
	}

	md, err := toMetadata(req.Header)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}

	c := &call{body: req.Body, method: req.URL.Path, codec: codec}
	name := protoreflect.FullName(strings.Replace(c.method[1:], "/", ".", 1))

	// If no descriptor is linked, found is nil.
	found, _ := protoregistry.GlobalFiles.FindDescriptorByName(name)
	method, ok := found.(protoreflect.MethodDescriptor)
	c.desc.ServerStreams = !ok || method.IsStreamingServer()
	c.desc.ClientStreams = !ok || method.IsStreamingClient()

	c.ctx = metadata.NewOutgoingContext(req.Context(), md)

	key, given := runtime.Affinity(c.ctx)
	if ofRequest, ok := c.ctx.Value(affinityKey{}).(*string); ok && !given {
		key = *ofRequest
	}

	// This also restores the header of the context's own affinity, which md has
	// replaced.
	if key != "" {
		c.ctx = runtime.WithAffinity(c.ctx, key)
	}

	return c, nil
}

// codecOf returns the codec named in a request's header. It fails for other
// protocols than gRPC, and if Connect compresses requests: gRPC would send the
// compressed bytes as the message.
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

	return "", fmt.Errorf("connectetcd: the content type %.100q is of another protocol than gRPC: make the client with connect.WithGRPC, without another protocol's option after it",
		contentType)
}

// send sends the messages of the body. It returns at the end of the body or of
// the call.
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

// response returns the response to a call. The caller sets its trailers once
// the call has ended.
func (c *call) response(header metadata.MD, body io.ReadCloser) *http.Response {
	h := make(http.Header, len(header)+1)
	addMetadata(h, header)

	sent := header.Get("content-type")
	if len(sent) == 0 { // the call has failed before the server sent headers
		sent = []string{"application/grpc+" + string(c.codec)}
	}

	h.Set("Content-Type", sent[0])

	return &http.Response{
		StatusCode: http.StatusOK,
		ProtoMajor: 2,
		Header:     h,
		Body:       body,
		Trailer:    make(http.Header),
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

	// Details that cannot be encoded are omitted.
	if details, err := proto.Marshal(s.Proto()); err == nil {
		header.Set("Grpc-Status-Details-Bin",
			base64.RawStdEncoding.EncodeToString(details))
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

// Read returns io.EOF after the last message, also if the call fails: the
// status is in the trailers.
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

// readMessage reads a message from a body, after its prefix: a byte of flags
// and four of length. It returns io.EOF at the end of the body. See
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
func readMessage(body io.Reader) ([]byte, error) {
	var prefix [5]byte
	if _, err := io.ReadFull(body, prefix[:]); err != nil {
		return nil, err
	}

	// The length needs no bound, because this process has the message in
	// memory.
	message := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	if _, err := io.ReadFull(body, message); err != nil {
		return nil, fmt.Errorf("a message of %d bytes: %w", len(message),
			io.ErrUnexpectedEOF)
	}

	return message, nil
}

// A codec passes messages through unchanged, because Connect has encoded them.
// Its value is the name of Connect's codec: gRPC sends it as the content
// subtype.
type codec string

func (c codec) Name() string {
	return string(c)
}

// Marshal returns the message without a copy, because nothing changes the
// message afterwards.
func (codec) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(message.([]byte))}, nil
}

// Unmarshal makes message, an *io.Reader, read the message with its prefix.
func (codec) Unmarshal(data mem.BufferSlice, message any) error {
	// gRPC's length field has 32 bits
	prefix := binary.BigEndian.AppendUint32([]byte{0}, uint32(data.Len()))
	*message.(*io.Reader) = io.MultiReader(bytes.NewReader(prefix), data.Reader())

	return nil
}

// isReserved reports whether HTTP or gRPC set a header themselves.
func isReserved(header string) bool {
	switch http.CanonicalHeaderKey(header) {
	case "Accept-Encoding", "Connection", "Content-Length", "Content-Type",
		"Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "User-Agent",

		"Grpc-Accept-Encoding", "Grpc-Encoding", "Grpc-Message",
		"Grpc-Message-Type", "Grpc-Status", "Grpc-Status-Details-Bin",
		"Grpc-Timeout":
		return true
	}

	return false
}

// binarySuffix ends the names of headers whose values are bytes, sent as
// base64.
const binarySuffix = "-bin"

// toMetadata converts headers to metadata, without the reserved headers. If it
// fails, md has every value that can be decoded.
func toMetadata(header http.Header) (md metadata.MD, failed error) {
	md = make(metadata.MD)
	for name, values := range header {
		if isReserved(name) {
			continue
		}

		name = strings.ToLower(name)
		if !strings.HasSuffix(name, binarySuffix) {
			md[name] = append(md[name], values...)
			continue
		}

		for _, value := range values {
			// By gRPC's specification a header may have several values,
			// separated by commas.
			for value := range strings.SplitSeq(value, ",") {
				decoded, err := connect.DecodeBinaryHeader(strings.TrimSpace(value))
				if err != nil {
					failed = fmt.Errorf("connectetcd: the header %s has a value that is not base64: encode it with connect.EncodeBinaryHeader: %w", name, err)
					continue
				}

				md[name] = append(md[name], string(decoded))
			}
		}
	}

	return md, failed
}

// addMetadata adds metadata to header, without the reserved headers.
func addMetadata(header http.Header, md metadata.MD) {
	for name, values := range md {
		if isReserved(name) {
			continue
		}

		for _, value := range values {
			if strings.HasSuffix(name, binarySuffix) {
				value = base64.RawStdEncoding.EncodeToString([]byte(value))
			}

			header.Add(name, value)
		}
	}
}
