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

// Options of other plugins may have the numbers of our options, and a request identifies options only by number. So the request
// is parsed without our options, and this file parses them in files that import our proto file. No compiler accepts a file that
// imports two options with one number.

// unparsed resolves every linked extension except our options.
type unparsed struct{ *protoregistry.Types }

func (r unparsed) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	xt, err := r.Types.FindExtensionByNumber(message, number)
	if err == nil && (xt == discoveryv1.E_Service || xt == discoveryv1.E_Method) {
		return nil, protoregistry.NotFound
	}
	return xt, err
}

// importersOf returns the paths of the files that import our options, directly or by public imports, or that import
// nothing. files must have each file after its imports, as every request does.
func importersOf(files []*descriptorpb.FileDescriptorProto) map[string]bool {
	importers, public := make(map[string]bool), make(map[string]bool)
	options := discoveryv1.File_etcd_discovery_v1_options_proto
	shows := func(path string) bool {
		_, sent := importers[path] // buf leaves out files that are imported only for options, protoc does not
		return public[path] || !sent && strings.HasSuffix("/"+path, "/"+options.Path())
	}
	for _, file := range files {
		path, imports, unsent := file.GetName(), file.GetDependency(), file.GetOptionDependency()
		if file.GetPackage() == string(options.Package()) {
			public[path] = true
		}
		importers[path] = len(imports)+len(unsent) == 0 || slices.ContainsFunc(imports, shows) || slices.ContainsFunc(unsent, shows)
		for _, i := range file.GetPublicDependency() {
			if i := int(i); 0 <= i && i < len(imports) && shows(imports[i]) {
				public[path] = true
			}
		}
	}
	return importers
}

// parseOption reads one of our options from the options of a service or method.
func (r *reader) parseOption(at position, options proto.Message, ours protoreflect.ExtensionType) (option proto.Message, found bool) {
	if !r.importers[at.file.Desc.Path()] {
		return nil, false
	}
	wire, found := rawOption(options.ProtoReflect(), ours.TypeDescriptor().Number())
	if !found {
		return nil, false
	}
	option = ours.New().Message().Interface()
	if err := proto.Unmarshal(wire, option); err != nil {
		if at.file.Generate {
			at.at(ours.TypeDescriptor()).problem("has an option (%s) that cannot be read: %v", ours.TypeDescriptor().FullName(), err)
		}
		return nil, true
	}
	return option, true
}

// rawOption returns the bytes of an option that was not parsed. It joins the parts of a message that is encoded in parts.
func rawOption(options protoreflect.Message, number protowire.Number) (wire []byte, found bool) {
	for unknown := options.GetUnknown(); len(unknown) > 0; {
		n, kind, length := protowire.ConsumeField(unknown)
		if length < 0 {
			break // not reached: options were parsed before
		}
		if n == number && kind == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(unknown)
			part, _ := protowire.ConsumeBytes(unknown[tag:])
			wire, found = append(wire, part...), true
		}
		unknown = unknown[length:]
	}
	return wire, found
}

// upgrade is the cure for options that come from a newer options.proto.
const upgrade = "it is newer than this plugin: upgrade protoc-gen-go-etcd"

// checkNewer reports fields and enum values that this plugin does not know, instead of ignoring them,
// and invalid durations. It returns whether it reported a problem.
func checkNewer(at position, options protoreflect.Message) bool {
	before := len(at.problems.list)
	checkUnknownFields(at, options)
	options.Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		field := at.in(fd.Name())
		switch {
		case fd.IsMap(): // all our maps hold strings, for which nothing is unknown
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
			return // not reached: options were parsed before
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

// complete reports whether this plugin knows all fields of a message. Otherwise a field that seems unset may be set in a way that
// only newer plugins know.
func complete(m proto.Message) bool {
	return len(m.ProtoReflect().GetUnknown()) == 0
}

// known reports whether an enum value has a name.
func known(value protoreflect.Enum) bool {
	return value.Descriptor().Values().ByNumber(value.Number()) != nil
}
