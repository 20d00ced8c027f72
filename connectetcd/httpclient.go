package connectetcd

import (
	"context"
	"io"
	"math"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// NewHTTPClient returns an HTTP client that makes the calls of Connect clients on conn, usually a connection of
// [runtime.Registry.NewClient]. It is safe for concurrent use, and does not close conn.
//
// Make the client with connect.WithGRPC: requests of other protocols fail with connect.CodeUnimplemented. The scheme and
// host of the base URL are ignored, and the URL must have no path. connect.IsWireError returns true for every error of a call.
//
// Headers that HTTP or gRPC set themselves, such as User-Agent and Grpc-Timeout, are not sent: use grpc.WithUserAgent and the
// context's deadline. A reply message may have 4 MiB, or grpc.MaxCallRecvMsgSize; connect.WithReadMaxBytes applies as well. gRPC
// compresses requests, by grpc.UseCompressor: calls with connect.WithSendCompression fail. connect.WithAcceptCompression has no effect.
//
// Unary calls pass through the connection's unary interceptors, all others through its stream interceptors. A method whose
// descriptor is not linked into the program is called as a bidirectional stream. Connect and this package run the interceptors of a
// call that streams requests in goroutines of their own, so a panic in one ends the process.
func NewHTTPClient(conn grpc.ClientConnInterface) connect.HTTPClient { return httpClient{conn} }

type httpClient struct {
	conn grpc.ClientConnInterface
}

// Do implements [connect.HTTPClient]. It returns an error only for a request that is not a gRPC call. The status of a call,
// successful or not, is in the trailers of the response.
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

// repeatable lets gRPC repeat a call of any size if a net/http server, when it stops, has not begun the call. Its only message is in
// memory anyway.
var repeatable = grpc.MaxRetryRPCBufferSize(math.MaxInt)

func (c httpClient) unary(call *call) *http.Response {
	defer call.body.Close()
	message, err := readMessage(call.body)
	if err != nil {
		return call.errorResponse(status.Errorf(codes.Internal, "connectetcd: read the request of %s: %v", call.method, err))
	}

	var header, trailer metadata.MD
	var reply io.Reader = http.NoBody
	err = c.conn.Invoke(call.ctx, call.method, message, &reply, grpc.ForceCodecV2(call.codec), repeatable, grpc.Header(&header), grpc.Trailer(&trailer))
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
	// At the end of the call, Close unblocks the writer of the body, and send.
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
	body := &streamBody{stream: stream, cancel: cancel, rest: http.NoBody}
	response := call.response(header, body)
	body.trailer = response.Trailer
	return response
}
