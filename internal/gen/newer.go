package gen

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// upgrade is the cure for options that come from a newer options.proto.
const upgrade = "it is newer than this plugin: upgrade protoc-gen-go-etcd"

// checkNewer reports the fields and enum values in options that this plugin does not know, so that
// none is ignored, and invalid durations. It returns whether there are any.
func checkNewer(at position, options protoreflect.Message) bool {
	before := len(at.problems.list)
	checkUnknownFields(at, options)
	options.Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		field := at.in(fd.Name())
		switch {
		case fd.IsMap(): // of strings, which cannot be newer
		case fd.IsList():
			for i := range value.List().Len() {
				checkNewerValue(field.index(i), fd, value.List().Get(i))
			}
		default:
			checkNewerValue(field, fd, value)
		}
		return true
	})
	return len(at.problems.list) > before
}

func checkUnknownFields(at position, options protoreflect.Message) {
	seen := map[protowire.Number]bool{}
	for unknown := options.GetUnknown(); len(unknown) > 0; {
		number, _, n := protowire.ConsumeField(unknown)
		if n < 0 {
			return // not reached: it was parsed before
		}
		unknown = unknown[n:]
		if !seen[number] {
			seen[number] = true
			at.number(number).problem("has field number %d of %s; %s", number, options.Descriptor().FullName(), upgrade)
		}
	}
}

func checkNewerValue(at position, fd protoreflect.FieldDescriptor, value protoreflect.Value) {
	switch {
	case fd.Message() != nil:
		checkNewer(at, value.Message())
		if d, ok := value.Message().Interface().(*durationpb.Duration); ok {
			isDuration(at, d)
		}
	case fd.Enum() != nil && fd.Enum().Values().ByNumber(value.Enum()) == nil:
		at.problem("has the value %d of %s; %s", value.Enum(), fd.Enum().FullName(), upgrade)
	}
}

// complete reports whether this plugin knows all fields of a message. Only then is a missing field known to be unset.
func complete(m proto.Message) bool {
	return len(m.ProtoReflect().GetUnknown()) == 0
}

// known reports whether an enum value has a name.
func known(value protoreflect.Enum) bool {
	return value.Descriptor().Values().ByNumber(value.Number()) != nil
}
