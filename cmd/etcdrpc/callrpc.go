package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/jhump/protoreflect/v2/protoresolve"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// messages returns one request after another as JSON, and io.EOF after the last. It waits for a request until ctx ends.
type messages func(ctx context.Context) (json.RawMessage, error)

// readMessages returns the values in a text of JSON, each as soon as it is read. Nothing can interrupt a read of standard
// input, so a goroutine reads each value and, where ctx ends, is left to wait for it.
func readMessages(r io.Reader) messages {
	type value struct {
		text json.RawMessage
		err  error
	}
	decoder := json.NewDecoder(r)
	var reading chan value // nil: nobody reads
	return func(ctx context.Context) (json.RawMessage, error) {
		if reading == nil {
			next := make(chan value, 1)
			go func() {
				var v value
				v.err = decoder.Decode(&v.text)
				next <- v
			}()
			reading = next
		}
		select {
		case v := <-reading:
			reading = nil
			if v.err != nil && !errors.Is(v.err, io.EOF) {
				return nil, inputError{fmt.Errorf("--data: %w", v.err)}
			}
			return v.text, v.err
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for --data: %w", status.FromContextError(ctx.Err()).Err())
		}
	}
}

// inputError is what is wrong with the requests that were given.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// rpc is a call of a method, of any of the four kinds.
type rpc struct {
	method protoreflect.MethodDescriptor
	types  protoresolve.TypeResolver
}

// run calls the method over a connection. out gets each response as JSON.
func (r *rpc) run(ctx context.Context, conn grpc.ClientConnInterface, in messages, out func(json.RawMessage) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !r.method.IsStreamingClient() {
		only, err := r.readOnly(ctx, in)
		if err != nil {
			return err
		}
		in = once(only)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{
		ClientStreams: r.method.IsStreamingClient(), ServerStreams: r.method.IsStreamingServer(),
	}, "/"+fullMethod(r.method))
	if err != nil {
		return err
	}
	go func() {
		if err := r.send(ctx, stream, in); err != nil {
			cancel(err)
		}
	}()
	err = r.receive(stream, out)
	var wrong inputError
	if errors.As(context.Cause(ctx), &wrong) {
		return wrong
	}
	return err
}

// readOnly reads the request of a method that takes one. None at all stands for an empty one.
func (r *rpc) readOnly(ctx context.Context, in messages) (json.RawMessage, error) {
	only, err := in(ctx)
	switch {
	case errors.Is(err, io.EOF):
		return json.RawMessage("{}"), nil
	case err != nil:
		return nil, err
	}
	if _, err := r.request(only); err != nil {
		return nil, err
	}
	switch _, err := in(ctx); {
	case err == nil:
		return nil, inputError{fmt.Errorf("--data: there are several requests, and %s takes one", fullMethod(r.method))}
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return only, nil
}

// once returns one request.
func once(only json.RawMessage) messages {
	return all([]json.RawMessage{only})
}

// all returns the requests of a list.
func all(list []json.RawMessage) messages {
	return func(context.Context) (json.RawMessage, error) {
		if len(list) == 0 {
			return nil, io.EOF
		}
		first := list[0]
		list = list[1:]
		return first, nil
	}
}

// request makes a message of JSON.
func (r *rpc) request(text json.RawMessage) (proto.Message, error) {
	message := dynamicpb.NewMessage(r.method.Input())
	if err := (protojson.UnmarshalOptions{Resolver: r.types}).Unmarshal(text, message); err != nil {
		return nil, inputError{fmt.Errorf("--data: %s is no %s: %w", printable.Short(string(text), 100), r.method.Input().FullName(), err)}
	}
	return message, nil
}

// send sends what there is to send. That a call ends early is told by what it receives.
func (r *rpc) send(ctx context.Context, stream grpc.ClientStream, in messages) error {
	for {
		text, err := in(ctx)
		if errors.Is(err, io.EOF) {
			return stream.CloseSend()
		}
		if err != nil {
			return err
		}
		message, err := r.request(text)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(message); err != nil {
			return nil //nolint:nilerror // io.EOF: the stream has ended, and receive returns why
		}
	}
}

func (r *rpc) receive(stream grpc.ClientStream, out func(json.RawMessage) error) error {
	for {
		message := dynamicpb.NewMessage(r.method.Output())
		err := stream.RecvMsg(message)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := r.json(message)
		if err != nil {
			return fmt.Errorf("show the response: %w", err)
		}
		if err := out(text); err != nil {
			return err
		}
		if !r.method.IsStreamingServer() {
			return nil
		}
	}
}

// json returns a message as JSON without blanks, which protojson puts where it likes.
func (r *rpc) json(message proto.Message) (json.RawMessage, error) {
	text, err := protojson.MarshalOptions{Resolver: r.types}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Compact(&out, text)
	return out.Bytes(), err
}

// failureJSON is how a call failed.
type failureJSON struct {
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details,omitempty"`
}

// failure returns how a call failed, with a hint at what may help.
func (r *rpc) failure(err error, hint string) *failureJSON {
	st, _ := status.FromError(err)
	f := &failureJSON{Code: st.Code().String(), Message: st.Message()}
	if st.Code() == codes.Unknown && st.Message() == "" {
		f.Message = err.Error()
	}
	if hint != "" {
		f.Message += "; " + hint
	}
	for _, detail := range st.Proto().GetDetails() {
		f.Details = append(f.Details, r.detail(detail))
	}
	return f
}

// detail returns a detail of an error as JSON: its type and bytes where the type is not known.
func (r *rpc) detail(detail *anypb.Any) json.RawMessage {
	if text, err := r.json(detail); err == nil {
		return text
	}
	text, err := marshal(map[string]any{"@type": detail.GetTypeUrl(), "value": detail.GetValue()}, "")
	if err != nil { // of a text and bytes
		panic(err)
	}
	return text
}
