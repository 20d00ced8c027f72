package connectetcd

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// response returns the response to a call. The caller sets its trailers once the call has ended.
func (c *call) response(header metadata.MD, body io.ReadCloser) *http.Response {
	h := make(http.Header, len(header)+1)
	addMetadata(h, header)
	if sent := header.Get("content-type"); len(sent) > 0 {
		h.Set("Content-Type", sent[0])
	} else { // the call has failed before there was one
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

// streamResponse returns the response to a call, when its headers have come or it has ended.
func (c *call) streamResponse(ctx context.Context, stream grpc.ClientStream, cancel context.CancelCauseFunc) *http.Response {
	header, _ := stream.Header() // its error is the stream's, which the body gets
	body := &streamBody{ctx: ctx, stream: stream, cancel: cancel}
	response := c.response(header, body)
	body.trailer = response.Trailer
	return response
}

// setTrailers sets the trailers of a call that has ended with err, nil for OK.
func setTrailers(header http.Header, trailer metadata.MD, err error) {
	addMetadata(header, trailer)
	s := status.Convert(err)
	header.Set("Grpc-Status", strconv.Itoa(int(s.Code())))
	if s.Message() != "" {
		header.Set("Grpc-Message", url.PathEscape(s.Message()))
	}
	if len(s.Proto().GetDetails()) == 0 {
		return
	}
	if details, err := proto.Marshal(s.Proto()); err == nil { // else they are of no use to anybody
		header.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
	}
}

// A streamBody is the body of a response that receives messages as it is read.
type streamBody struct {
	ctx     context.Context // the call's
	stream  grpc.ClientStream
	cancel  context.CancelCauseFunc
	trailer http.Header // added to at the end

	rest  envelope
	ended bool
}

// Read ends with io.EOF however the call ends, for its status is in the trailers.
func (b *streamBody) Read(to []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.ended {
			return 0, io.EOF
		}
		if err := b.stream.RecvMsg(&b.rest); err != nil {
			b.end(err)
		}
	}
	n := copy(to, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *streamBody) end(err error) {
	b.ended, b.rest = true, nil
	if errors.Is(err, io.EOF) {
		err = nil
	} else if failed := (sendError{}); errors.As(context.Cause(b.ctx), &failed) {
		err = failed.error
	}
	setTrailers(b.trailer, b.stream.Trailer(), err)
	b.cancel(nil)
}

// Close ends the call if it has not ended.
func (b *streamBody) Close() error {
	b.cancel(nil)
	return nil
}
