package connectetcd

import (
	"context"
	"errors"
	"io"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// NewHTTPClient returns an HTTP client that makes the calls of Connect clients on a gRPC connection, such as one of
// [runtime.Registry.NewClient]. It is for clients made by hand: generated constructors call [NewClient].
//
// The client must be made with connect.WithGRPC: calls by the Connect and gRPC-Web protocols end with an error that says
// so. Scheme and host of the base URL mean nothing, for the connection has the servers; a path in it is an error, for
// gRPC's methods have none. Nor can interceptors tell the errors of the connection from those of servers: all are wire
// errors.
//
// The limits of messages are the connection's, of which gRPC's default is to receive 4 MiB, and the Connect client's.
// Requests that the client compresses travel compressed if gRPC has a compressor of that name, as it has for gzip here.
// Calls of unary methods pass the connection's interceptors of unary calls, others those of streams. Which they are is
// read from the descriptors that the program links; without one a call counts as a stream.
func NewHTTPClient(conn grpc.ClientConnInterface) connect.HTTPClient { return httpClient{conn} }

type httpClient struct {
	conn grpc.ClientConnInterface
}

// Do implements [connect.HTTPClient]. It returns an error for a request that is not for gRPC. That of a call is in the
// trailers of its response.
func (c httpClient) Do(req *http.Request) (*http.Response, error) {
	call, err := newCall(req)
	if err == nil && c.conn == nil {
		err = connect.NewError(connect.CodeInternal, errors.New("connectetcd: NewHTTPClient was given a nil connection"))
	}
	switch {
	case err != nil:
		_ = call.body.Close() // nothing was read of it
		return nil, err
	case call.desc.ClientStreams:
		return c.stream(call), nil
	}
	// The request is complete when it is given.
	message, err := call.onlyMessage()
	switch {
	case err != nil:
		return call.failed(err), nil
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
	body := &wholeBody{rest: reply}
	response := call.response(header, body)
	end(response.Trailer, trailer, err)
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
		return call.failed(err)
	}
	return call.streamed(ctx, stream, cancel)
}

// stream makes a call that sends its requests while it may receive replies.
func (c httpClient) stream(call *call) *http.Response {
	ctx, cancel := context.WithCancelCause(call.ctx)
	// Whoever writes the body, and the goroutine that sends it, learn of the call's end by that.
	context.AfterFunc(ctx, func() { _ = call.body.Close() })
	stream, err := c.conn.NewStream(ctx, &call.desc, call.method, call.options()...)
	if err != nil {
		cancel(nil)
		return call.failed(err)
	}
	go call.send(stream, cancel)
	return call.streamed(ctx, stream, cancel)
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
			cancel(err)
			return
		}
		if stream.SendMsg(message) != nil { // as above
			_ = c.body.Close()
			return
		}
	}
}
