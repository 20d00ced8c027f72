package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/connectetcd"
	conformancev1 "github.com/etcdrpc/protoc-gen-go-etcd/integration/conformance/gen/connectrpc/conformance/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/conformance/gen/connectrpc/conformance/v1/conformancev1connect"
)

// A caller makes the call that one request describes.
type caller struct {
	*conformancev1.ClientCompatRequest
	client conformancev1connect.ConformanceServiceClient
	info   connect.CallInfo
	cancel context.CancelFunc
	result *conformancev1.ClientResponseResult
}

// call makes one call. It returns an error if the request is invalid; the
// result has the error of the call.
func call(
	ctx context.Context,
	req *conformancev1.ClientCompatRequest,
) (*conformancev1.ClientResponseResult, error) {
	conn, err := dial(req)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	opts := []connect.ClientOption{connect.WithGRPC()}
	if req.GetCodec() == conformancev1.Codec_CODEC_JSON {
		opts = append(opts, connect.WithProtoJSON())
	}

	if limit := req.GetMessageReceiveLimit(); limit > 0 {
		opts = append(opts, connect.WithReadMaxBytes(int(limit)))
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	if req.TimeoutMs != nil {
		var end context.CancelFunc
		ctx, end = context.WithTimeout(ctx,
			time.Duration(req.GetTimeoutMs())*time.Millisecond)
		defer end()
	}

	ctx, info := connect.NewClientContext(ctx)
	for _, h := range req.GetRequestHeaders() {
		for _, value := range h.GetValue() {
			info.RequestHeader().Add(h.GetName(), value)
		}
	}

	client := conformancev1connect.NewConformanceServiceClient(
		connectetcd.NewHTTPClient(conn), "http://any", opts...)
	c := caller{
		ClientCompatRequest: req,
		client:              client,
		info:                info,
		cancel:              cancel,
		result:              new(conformancev1.ClientResponseResult),
	}

	if err := c.make(ctx); err != nil {
		return nil, err
	}

	c.result.ResponseHeaders = toHeaders(info.ResponseHeader())
	c.result.ResponseTrailers = toHeaders(info.ResponseTrailer())

	return c.result, nil
}

// dial returns a connection to the server that a request names.
func dial(req *conformancev1.ClientCompatRequest) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()

	if len(req.GetServerTlsCert()) > 0 {
		config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !config.RootCAs.AppendCertsFromPEM(req.GetServerTlsCert()) {
			return nil, errors.New("invalid server certificate")
		}

		if own := req.GetClientTlsCreds(); own != nil {
			certificate, err := tls.X509KeyPair(own.GetCert(), own.GetKey())
			if err != nil {
				return nil, err
			}

			config.Certificates = []tls.Certificate{certificate}
		}

		creds = credentials.NewTLS(config)
	}

	opts := []grpc.DialOption{grpc.WithTransportCredentials(creds)}
	if req.GetCompression() == conformancev1.Compression_COMPRESSION_GZIP {
		opts = append(opts, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	}

	addr := net.JoinHostPort(req.GetHost(), strconv.FormatUint(uint64(req.GetPort()), 10))

	return grpc.NewClient("passthrough:///"+addr, opts...)
}

func (c *caller) make(ctx context.Context) error {
	switch c.GetMethod() {
	case "Unary":
		return unary(ctx, c, c.client.Unary)
	case "IdempotentUnary":
		return unary(ctx, c, c.client.IdempotentUnary)

	case "Unimplemented":
		return unary(ctx, c, c.unimplemented)

	case "ServerStream":
		return c.serverStream(ctx)
	case "ClientStream":
		return c.clientStream(ctx)
	case "BidiStream":
		return c.bidiStream(ctx)
	}

	return fmt.Errorf("there is no method %q", c.GetMethod())
}

func (c *caller) unimplemented(
	ctx context.Context,
	req *conformancev1.UnimplementedRequest,
) (*conformancev1.UnaryResponse, error) {
	_, err := c.client.Unimplemented(ctx, req)
	return new(conformancev1.UnaryResponse), err
}

// message is a pointer to a message.
type message[T any] interface {
	*T
	proto.Message
}

// payload is a message with a payload.
type payload interface {
	GetPayload() *conformancev1.ConformancePayload
}

func unary[Req any, P message[Req], Resp payload](
	ctx context.Context,
	c *caller,
	method func(context.Context, P) (Resp, error),
) error {
	req := P(new(Req))
	if err := c.GetRequestMessages()[0].UnmarshalTo(req); err != nil {
		return err
	}

	c.cancelAfterCloseSend()
	resp, err := method(ctx, req)
	c.received(resp, err)

	return nil
}

// cancelAfterCloseSend starts a timer that cancels the call, if the request has
// a delay for it.
func (c *caller) cancelAfterCloseSend() {
	after, ok := c.GetCancel().GetCancelTiming().(*conformancev1.ClientCompatRequest_Cancel_AfterCloseSendMs)
	if ok {
		time.AfterFunc(time.Duration(after.AfterCloseSendMs)*time.Millisecond, c.cancel)
	}
}

func (c *caller) cancelBeforeCloseSend() {
	_, ok := c.GetCancel().GetCancelTiming().(*conformancev1.ClientCompatRequest_Cancel_BeforeCloseSend)
	if ok {
		c.cancel()
	}
}

// received adds a reply or the call's error to the result, and reports whether
// more replies may follow.
func (c *caller) received(reply payload, err error) bool {
	switch {
	case errors.Is(err, io.EOF):
		return false
	case err != nil:
		if c.result.Error == nil {
			c.result.Error = toError(err)
		}

		return false
	}

	c.result.Payloads = append(c.result.Payloads, reply.GetPayload())

	after, ok := c.GetCancel().GetCancelTiming().(*conformancev1.ClientCompatRequest_Cancel_AfterNumResponses)
	if ok && uint32(len(c.result.GetPayloads())) == after.AfterNumResponses {
		c.cancel()
	}

	return true
}

func (c *caller) serverStream(ctx context.Context) error {
	req := new(conformancev1.ServerStreamRequest)
	if err := c.GetRequestMessages()[0].UnmarshalTo(req); err != nil {
		return err
	}

	c.cancelAfterCloseSend()

	stream, err := c.client.ServerStream(ctx, req)
	if err != nil {
		c.received(nil, err)
		return nil
	}

	for stream.Receive() {
		c.received(stream.Msg(), nil)
	}

	if err := errors.Join(stream.Err(), stream.Close()); err != nil {
		c.received(nil, err)
	}

	return nil
}

// send sends the request's messages until the call has ended, and then records
// how many were not sent.
func send[Req any, P message[Req]](
	c *caller,
	send func(P) error,
	sent func() bool,
) error {
	for i, m := range c.GetRequestMessages() {
		time.Sleep(time.Duration(c.GetRequestDelayMs()) * time.Millisecond)

		req := P(new(Req))
		if err := m.UnmarshalTo(req); err != nil {
			return err
		}

		err := send(req)
		if errors.Is(err, io.EOF) {
			c.result.NumUnsentRequests = int32(len(c.GetRequestMessages()) - i)
			return nil // Receive returns why the call ended
		}

		if _, refused := errors.AsType[*connect.Error](err); err != nil && !refused {
			return err
		}

		if !sent() {
			return nil
		}
	}

	return nil
}

func (c *caller) clientStream(ctx context.Context) error {
	stream, err := c.client.ClientStream(ctx)
	if err != nil {
		return err
	}

	err = send(c, stream.Send, func() bool { return true })

	c.cancelBeforeCloseSend()
	c.cancelAfterCloseSend()

	resp, callErr := stream.CloseAndReceive()
	c.received(resp, callErr)

	return err
}

func (c *caller) bidiStream(ctx context.Context) error {
	stream, err := c.client.BidiStream(ctx)
	if err != nil {
		return err
	}

	more := true
	receive := func() bool {
		resp, err := stream.Receive()
		more = c.received(resp, err)

		return more
	}

	const full = conformancev1.StreamType_STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM
	sent := func() bool { return c.GetStreamType() != full || receive() }
	err = send(c, stream.Send, sent)
	c.cancelBeforeCloseSend()

	if closeErr := stream.CloseRequest(); closeErr != nil {
		c.received(nil, closeErr)
	}

	c.cancelAfterCloseSend()

	for more {
		receive()
	}

	return errors.Join(err, stream.CloseResponse())
}

func toHeaders(from http.Header) (headers []*conformancev1.Header) {
	for name, values := range from {
		headers = append(headers, &conformancev1.Header{Name: name, Value: values})
	}

	return headers
}

func toError(err error) *conformancev1.Error {
	text := err.Error()
	failed, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return &conformancev1.Error{Code: conformancev1.Code_CODE_UNKNOWN, Message: &text}
	}

	text = failed.Message()
	result := &conformancev1.Error{
		Code:    conformancev1.Code(failed.Code()),
		Message: &text,
	}
	for _, detail := range failed.Details() {
		result.Details = append(result.Details, &anypb.Any{
			TypeUrl: "type.googleapis.com/" + detail.Type(),
			Value:   detail.Bytes(),
		})
	}

	return result
}
