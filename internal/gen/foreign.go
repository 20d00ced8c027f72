package gen

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// Any option may have the number of ours, and a request holds only numbers. So the request is parsed without our options, and
// this file parses them for files that import ours: no compiler lets a file see two options with one number.

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
// nothing and so see no option of others. In files, as in every request, each file comes after its imports.
func importersOf(files []*descriptorpb.FileDescriptorProto) map[string]bool {
	importers, public := make(map[string]bool), make(map[string]bool)
	options := discoveryv1.File_etcd_discovery_v1_options_proto
	shows := func(path string) bool {
		_, sent := importers[path] // edition 2024 does not pass plugins the files imported for options
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

// rawOption returns the bytes of an option that was not parsed. It joins the parts of a message that is written in parts.
func rawOption(options protoreflect.Message, number protowire.Number) (wire []byte, found bool) {
	for unknown := options.GetUnknown(); len(unknown) > 0; {
		n, kind, length := protowire.ConsumeField(unknown)
		if length < 0 {
			break // not reached: it was parsed before
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
