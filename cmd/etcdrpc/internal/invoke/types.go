package invoke

import (
	"github.com/jhump/protoreflect/v2/protoresolve"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/runtime/protoiface"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// codec reads messages with the extensions that a schema knows. gRPC's own goes by those of the program alone.
type codec struct {
	encoding.CodecV2
	types responseTypes
}

func (c codec) Unmarshal(data mem.BufferSlice, message any) error {
	return proto.UnmarshalOptions{Resolver: c.types}.Unmarshal(data.Materialize(), message.(proto.Message))
}

// responseTypes are the types that responses are read by, and shown by as JSON, be they known or not.
type responseTypes struct{ protoresolve.TypeResolver }

// responses returns the types of a call, before its schema is known those that the command has itself.
func (r *RPC) responses() responseTypes {
	if r.Types == nil {
		return responseTypes{protoresolve.GlobalDescriptors.AsTypeResolver()}
	}
	return responseTypes{r.Types}
}

// FindExtensionByNumber says in the way that readers of messages heed that an extension is not known. A server may say so
// otherwise.
func (t responseTypes) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	found, err := t.TypeResolver.FindExtensionByNumber(message, number)
	if err != nil {
		return nil, protoregistry.NotFound
	}
	return found, nil
}

// FindMessageByURL returns opaque for the type of an Any that is not known.
func (t responseTypes) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if found, err := t.TypeResolver.FindMessageByURL(url); err == nil {
		return found, nil
	}
	return opaque{(*wrapperspb.BytesValue)(nil).ProtoReflect().Type()}, nil
}

// opaque is the type of what cannot be read: its JSON is the bytes that it is read from.
type opaque struct{ protoreflect.MessageType }

func (o opaque) New() protoreflect.Message { return opaqueMessage{o.MessageType.New()} }

type opaqueMessage struct{ protoreflect.Message }

func (m opaqueMessage) ProtoReflect() protoreflect.Message { return m }

func (m opaqueMessage) Interface() protoreflect.ProtoMessage { return m }

func (m opaqueMessage) ProtoMethods() *protoiface.Methods {
	return &protoiface.Methods{Unmarshal: func(in protoiface.UnmarshalInput) (protoiface.UnmarshalOutput, error) {
		m.Message.Interface().(*wrapperspb.BytesValue).Value = in.Buf
		return protoiface.UnmarshalOutput{Flags: protoiface.UnmarshalInitialized}, nil
	}}
}
