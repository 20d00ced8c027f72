package connectetcd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// NewHTTPClient returns an HTTP client that makes the calls of Connect clients on conn, usually a connection of
// [runtime.Registry.NewClient]. It is safe for concurrent use, and does not close conn.
//
// Make the client with connect.WithGRPC: requests of other protocols fail with connect.CodeUnimplemented. The scheme and
// host of the base URL are ignored, and it must have no path. connect.IsWireError is true of every error of a call.
//
// Headers that HTTP or gRPC set themselves are not sent, User-Agent and Grpc-Timeout among them: use grpc.WithUserAgent
// and the context's deadline. A reply may have 4 MiB unless grpc.MaxCallRecvMsgSize says otherwise;
// connect.WithReadMaxBytes applies as well. Compressed requests need a gRPC compressor of that name; gzip is registered.
//
// Unary calls pass the connection's unary interceptors, all others its stream interceptors. A method whose descriptor is
// not linked into the program counts as a bidirectional stream.
func NewHTTPClient(conn grpc.ClientConnInterface) connect.HTTPClient { return httpClient{conn} }

type httpClient struct {
	conn grpc.ClientConnInterface
}

// Do implements [connect.HTTPClient]. It returns an error for a request that is not for gRPC. That of a call is in the
// trailers of its response.
func (c httpClient) Do(req *http.Request) (*http.Response, error) {
	call, err := newCall(req)
	if conn, ok := c.conn.(*grpc.ClientConn); c.conn == nil || ok && conn == nil {
		err = connect.NewError(connect.CodeInternal, errors.New("connectetcd: NewHTTPClient was given a nil connection"))
	}
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // as RoundTripper demands; nothing was read of it
		}
		return nil, err
	}
	if call.desc.ClientStreams {
		return c.stream(call), nil
	}
	// The request is complete when it is given.
	message, err := call.onlyMessage()
	switch {
	case err != nil:
		return call.errorResponse(err), nil
	case call.desc.ServerStreams:
		return c.serverStream(call, message), nil
	}
	return c.unary(call, message), nil
}

func (c httpClient) unary(call *call, message []byte) *http.Response {
	var header, trailer metadata.MD
	var reply envelope
	opts := append(call.options(), grpc.Header(&header), grpc.Trailer(&trailer))
	err := c.conn.Invoke(call.ctx, call.method, message, &reply, opts...)
	if err != nil {
		reply = nil
	}
	response := call.response(header, io.NopCloser(bytes.NewReader(reply)))
	setTrailers(response.Trailer, trailer, err)
	return response
}

// serverStream makes a call whose one request is at hand.
func (c httpClient) serverStream(call *call, message []byte) *http.Response {
	ctx, cancel := context.WithCancelCause(call.ctx)
	stream, err := c.conn.NewStream(ctx, &call.desc, call.method, call.options()...)
	if err == nil {
		err = stream.SendMsg(message)
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the call has ended, and its status says why
		cancel(nil)
		return call.errorResponse(err)
	}
	return call.streamResponse(ctx, stream, cancel)
}

// stream makes a call that sends its requests while it may receive replies.
func (c httpClient) stream(call *call) *http.Response {
	ctx, cancel := context.WithCancelCause(call.ctx)
	// That ends the call for the writer of the body and for the goroutine that sends it.
	context.AfterFunc(ctx, func() { _ = call.body.Close() })
	stream, err := c.conn.NewStream(ctx, &call.desc, call.method, call.options()...)
	if err != nil {
		cancel(nil)
		return call.errorResponse(err)
	}
	go call.send(stream, cancel)
	return call.streamResponse(ctx, stream, cancel)
}
