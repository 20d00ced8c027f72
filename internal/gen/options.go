package gen

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// Another project's option may have the number of one of ours, and a request
// identifies options only by number. So the request is parsed without our
// options. This file parses the options with our numbers, if they are ours:
//
//   - If the request declares only another project's options, the options are
//     not ours.
//   - If no file declares the options, they are ours, and must not be ignored:
//     buf leaves out files that are imported only for options, and images lack
//     these imports, too.
//   - If the request declares our options and another project's, the options
//     are ours. buf refuses such a request, and protoc warns of it.

// unmarshaler leaves our options unparsed.
var unmarshaler = proto.UnmarshalOptions{Resolver: unparsed{protoregistry.GlobalTypes}}

// unparsed resolves every linked extension except our options.
type unparsed struct{ *protoregistry.Types }

func (r unparsed) FindExtensionByNumber(
	message protoreflect.FullName,
	number protoreflect.FieldNumber,
) (protoreflect.ExtensionType, error) {
	xt, err := r.Types.FindExtensionByNumber(message, number)
	if err == nil && (xt == discoveryv1.E_Service || xt == discoveryv1.E_Method) {
		return nil, protoregistry.NotFound
	}

	return xt, err
}

func newReader(files []*descriptorpb.FileDescriptorProto, problems *problems) *reader {
	r := &reader{problems: problems}
	for _, file := range files {
		if declares(file.GetExtension(), file.GetMessageType()) {
			own := discoveryv1.File_etcd_discovery_v1_options_proto.Package()
			ours := file.GetPackage() == string(own)
			r.ours = r.ours || ours
			r.others = r.others || !ours
		}
	}

	problems.undeclared = !r.ours && !r.others

	return r
}

// declares reports whether one of the extensions, or an extension in one of the
// messages, has the number of one of our options.
func declares(
	extensions []*descriptorpb.FieldDescriptorProto,
	messages []*descriptorpb.DescriptorProto,
) bool {
	hasOurNumber := func(x *descriptorpb.FieldDescriptorProto) bool {
		extendee := protoreflect.FullName(strings.TrimPrefix(x.GetExtendee(), "."))
		xt, _ := protoregistry.GlobalTypes.FindExtensionByNumber(
			extendee, protowire.Number(x.GetNumber()))

		return xt == discoveryv1.E_Service || xt == discoveryv1.E_Method
	}

	nested := func(m *descriptorpb.DescriptorProto) bool {
		return declares(m.GetExtension(), m.GetNestedType())
	}

	return slices.ContainsFunc(extensions, hasOurNumber) ||
		slices.ContainsFunc(messages, nested)
}

// parseOption reads one of our options from the options of a service or method.
func (r *reader) parseOption(
	at position,
	options proto.Message,
	ours protoreflect.ExtensionType,
) (option proto.Message, found bool) {
	if r.others && !r.ours {
		return nil, false
	}

	wire, found := rawOption(options.ProtoReflect(), ours.TypeDescriptor().Number())
	if !found {
		return nil, false
	}

	option = ours.New().Message().Interface()

	if err := proto.Unmarshal(wire, option); err != nil {
		if at.file.Generate && r.ours && !r.others {
			at.at(ours.TypeDescriptor()).problem(
				"has an option (%s) that cannot be read: %v",
				ours.TypeDescriptor().FullName(), err)
		}

		return nil, true
	}

	return option, true
}

// rawOption returns the bytes of an option that was not parsed. It joins the
// parts of a message that is encoded in parts.
func rawOption(
	options protoreflect.Message,
	number protowire.Number,
) (wire []byte, found bool) {
	for unknown := options.GetUnknown(); len(unknown) > 0; {
		n, kind, length := protowire.ConsumeField(unknown)
		if length < 0 {
			break // not reached: options were parsed before
		}

		if n == number && kind == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(unknown)
			part, _ := protowire.ConsumeBytes(unknown[tag:])
			wire = append(wire, part...)
			found = true
		}

		unknown = unknown[length:]
	}

	return wire, found
}

// upgrade is the cure for options that come from a newer options.proto.
const upgrade = "it is newer than this plugin: upgrade protoc-gen-go-etcd"

// checkNewer reports invalid durations, and fields and enum values that this
// plugin does not know. It returns whether it reported a problem.
func checkNewer(at position, options protoreflect.Message) bool {
	before := len(at.problems.list)
	checkUnknownFields(at, options)

	options.Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		field := at.in(fd.Name())

		switch {
		case fd.IsMap(): // all our maps hold strings, for which nothing is unknown
		case fd.IsList():
			for i := range value.List().Len() {
				checkNewerValue(field.below(int32(i)), fd, value.List().Get(i))
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
			return // not reached: options were parsed before
		}

		unknown = unknown[n:]

		if !seen[number] {
			seen[number] = true
			at.below(int32(number)).problem("has field number %d of %s; %s",
				number, options.Descriptor().FullName(), upgrade)
		}
	}
}

func checkNewerValue(
	at position,
	fd protoreflect.FieldDescriptor,
	value protoreflect.Value,
) {
	switch {
	case fd.Message() != nil:
		checkNewer(at, value.Message())

		if d, ok := value.Message().Interface().(*durationpb.Duration); ok {
			isDuration(at, d)
		}

	case fd.Enum() != nil && fd.Enum().Values().ByNumber(value.Enum()) == nil:
		at.problem("has the value %d of %s; %s",
			value.Enum(), fd.Enum().FullName(), upgrade)
	}
}

// complete reports whether this plugin knows all fields of a message. Otherwise
// a field that seems unset may be set in a way that only newer plugins know.
func complete(m proto.Message) bool {
	return len(m.ProtoReflect().GetUnknown()) == 0
}

// known reports whether an enum value has a name.
func known(value protoreflect.Enum) bool {
	return value.Descriptor().Values().ByNumber(value.Number()) != nil
}
