// Package invoke calls methods of gRPC servers with JSON in and JSON out, by the server's reflection or by descriptors.
package invoke

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
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
)

// Messages returns one request after another as JSON, and io.EOF after the last. It waits for a request until ctx ends.
type Messages func(ctx context.Context) (json.RawMessage, error)

// ReadMessages returns the values in a text of JSON, each as soon as it is read. Nothing can interrupt a read of standard
// input, so a goroutine reads each value and, where ctx ends, is left to wait for it.
func ReadMessages(r io.Reader) Messages {
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
				return nil, InputError{fmt.Errorf("the request is no JSON: %w", v.err)}
			}
			return v.text, v.err
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a request: %w", status.FromContextError(ctx.Err()).Err())
		}
	}
}

// InputError is what is wrong with the requests that were given.
type InputError struct{ error }

func (e InputError) Unwrap() error { return e.error }

// RPC is a call of a method, of any of the four kinds.
type RPC struct {
	Method protoreflect.MethodDescriptor
	Types  protoresolve.TypeResolver // nil: those that the command has itself
}

// Run calls the method over a connection. out gets each response as JSON.
func (r *RPC) Run(ctx context.Context, conn grpc.ClientConnInterface, in Messages, out func(json.RawMessage) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !r.Method.IsStreamingClient() {
		only, err := r.readOnly(ctx, in)
		if err != nil {
			return err
		}
		in = once(only)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{
		ClientStreams: r.Method.IsStreamingClient(), ServerStreams: r.Method.IsStreamingServer(),
	}, "/"+FullMethod(r.Method), grpc.ForceCodecV2(codec{encoding.GetCodecV2("proto"), r.responses()}))
	if err != nil {
		return err
	}
	go func() {
		if err := r.send(ctx, stream, in); err != nil {
			cancel(err)
		}
	}()
	err = r.receive(stream, out)
	if wrong, ok := errors.AsType[InputError](context.Cause(ctx)); ok {
		return wrong
	}
	return err
}

// readOnly reads the request of a method that takes one. None at all stands for an empty one.
func (r *RPC) readOnly(ctx context.Context, in Messages) (json.RawMessage, error) {
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
		return nil, InputError{fmt.Errorf("there are several requests, and %s takes one", FullMethod(r.Method))}
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return only, nil
}

// once returns one request.
func once(only json.RawMessage) Messages {
	return All([]json.RawMessage{only})
}

// All returns the requests of a list.
func All(list []json.RawMessage) Messages {
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
func (r *RPC) request(text json.RawMessage) (proto.Message, error) {
	message := dynamicpb.NewMessage(r.Method.Input())
	if err := (protojson.UnmarshalOptions{Resolver: r.Types}).Unmarshal(text, message); err != nil {
		return nil, InputError{fmt.Errorf("%s is no %s: %w", printable.Short(string(text), 100), r.Method.Input().FullName(), err)}
	}
	return message, nil
}

// send sends what there is to send. That a call ends early is told by what it receives.
func (r *RPC) send(ctx context.Context, stream grpc.ClientStream, in Messages) error {
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

func (r *RPC) receive(stream grpc.ClientStream, out func(json.RawMessage) error) error {
	for {
		message := dynamicpb.NewMessage(r.Method.Output())
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
		if !r.Method.IsStreamingServer() {
			return nil
		}
	}
}

// json returns a message as JSON without blanks, which protojson puts where it likes.
func (r *RPC) json(message proto.Message) (json.RawMessage, error) {
	if err := r.checkNesting(message); err != nil {
		return nil, err
	}
	text, err := protojson.MarshalOptions{Resolver: r.responses()}.Marshal(message)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Compact(&out, text)
	return out.Bytes(), err
}

// maxNesting bounds how many Anys are in one another. Each is decoded with all that is in it, so more take quadratic time.
const maxNesting = 32

// checkNesting refuses a message with too many Anys in one another.
func (r *RPC) checkNesting(message proto.Message) error {
	depth := 0
	return protorange.Options{Resolver: r.responses()}.Range(message.ProtoReflect(), func(p protopath.Values) error {
		if p.Path.Index(-1).Kind() == protopath.AnyExpandStep {
			if depth++; depth > maxNesting {
				return fmt.Errorf("more than %d messages of type google.protobuf.Any are in one another", maxNesting)
			}
		}
		return nil
	}, func(p protopath.Values) error {
		if p.Path.Index(-1).Kind() == protopath.AnyExpandStep {
			depth--
		}
		return nil
	})
}

// FailureJSON is how a call failed.
type FailureJSON struct {
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details,omitempty"`
}

// Failure returns how a call failed, with a hint at what may help.
func (r *RPC) Failure(err error, hint string) *FailureJSON {
	st, _ := status.FromError(err)
	f := &FailureJSON{Code: st.Code().String(), Message: st.Message()}
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

// detail returns a detail of an error as JSON: its type and bytes where it is malformed, or nested too deep.
func (r *RPC) detail(detail *anypb.Any) json.RawMessage {
	if text, err := r.json(detail); err == nil {
		return text
	}
	text, err := output.Marshal(map[string]any{"@type": detail.GetTypeUrl(), "value": detail.GetValue()}, "")
	if err != nil { // of a text and bytes
		panic(err)
	}
	return text
}
