package gen

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// Anybody may give an option of their own the number of ours, and a request holds only numbers. So our options are
// parsed not with the request but here, once it is known whose they are.

// unparsed resolves every linked extension but our options.
type unparsed struct{ *protoregistry.Types }

func (r unparsed) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	xt, err := r.Types.FindExtensionByNumber(message, number)
	if err == nil && (xt == discoveryv1.E_Service || xt == discoveryv1.E_Method) {
		return nil, protoregistry.NotFound
	}
	return xt, err
}

// foreignOptions are the options of others that have the number of ours.
type foreignOptions struct {
	files   map[string]*descriptorpb.FileDescriptorProto
	options map[foreignKey]foreignOption
}

// A foreignKey is the file that defines an option, and the message that the option extends.
type foreignKey struct {
	path     string
	extendee protoreflect.FullName
}

// A foreignOption is the name of an option, and the path to it in its file.
type foreignOption struct {
	name     protoreflect.FullName
	location []int32
}

// findForeign finds the options of others in the files of a request. protogen's files would not do: it leaves out
// files that are imported only for their options.
func findForeign(files []*descriptorpb.FileDescriptorProto) foreignOptions {
	foreign := foreignOptions{make(map[string]*descriptorpb.FileDescriptorProto, len(files)), map[foreignKey]foreignOption{}}
	for _, file := range files {
		foreign.files[file.GetName()] = file
		const messages, extensions = 4, 7
		scope := protoreflect.FullName(file.GetPackage())
		foreign.add(file, scope, []int32{extensions}, file.GetExtension())
		foreign.addNested(file, scope, []int32{messages}, file.GetMessageType())
	}
	return foreign
}

func (f foreignOptions) addNested(file *descriptorpb.FileDescriptorProto, scope protoreflect.FullName, path []int32, messages []*descriptorpb.DescriptorProto) {
	const nested, extensions = 3, 6
	for i, message := range messages {
		path := append(slices.Clip(path), int32(i))
		scope := scope.Append(protoreflect.Name(message.GetName()))
		f.add(file, scope, append(slices.Clip(path), extensions), message.GetExtension())
		f.addNested(file, scope, append(slices.Clip(path), nested), message.GetNestedType())
	}
}

func (f foreignOptions) add(file *descriptorpb.FileDescriptorProto, scope protoreflect.FullName, path []int32, extensions []*descriptorpb.FieldDescriptorProto) {
	for i, x := range extensions {
		name := scope.Append(protoreflect.Name(x.GetName()))
		for _, ours := range []protoreflect.ExtensionTypeDescriptor{discoveryv1.E_Service.TypeDescriptor(), discoveryv1.E_Method.TypeDescriptor()} {
			extendee := ours.ContainingMessage().FullName()
			if x.GetNumber() == int32(ours.Number()) && x.GetExtendee() == "."+string(extendee) && name != ours.FullName() {
				f.options[foreignKey{file.GetName(), extendee}] = foreignOption{name, append(slices.Clip(path), int32(i))}
			}
		}
	}
}

// seenBy describes the option with the number of ours that a file defines or imports, "" for none.
func (f foreignOptions) seenBy(path string, ours protoreflect.ExtensionTypeDescriptor) string {
	if len(f.options) == 0 {
		return ""
	}
	seen := map[string]bool{}
	paths := append([]string{path}, f.files[path].GetDependency()...)
	paths = append(paths, f.files[path].GetOptionDependency()...)
	for len(paths) > 0 {
		path, paths = paths[0], paths[1:]
		file := f.files[path]
		if seen[path] || file == nil {
			continue
		}
		seen[path] = true
		if option, ok := f.options[foreignKey{path, ours.ContainingMessage().FullName()}]; ok {
			return option.in(file)
		}
		for _, i := range file.GetPublicDependency() {
			if i := int(i); 0 <= i && i < len(file.GetDependency()) {
				paths = append(paths, file.GetDependency()[i])
			}
		}
	}
	return ""
}

// in describes the option, with its place in file, as an error mentions it.
func (o foreignOption) in(file *descriptorpb.FileDescriptorProto) string {
	for _, location := range file.GetSourceCodeInfo().GetLocation() {
		if span := location.GetSpan(); slices.Equal(location.GetPath(), o.location) && len(span) >= 2 {
			return fmt.Sprintf("(%s) (%s:%d:%d)", o.name, printable.Text(file.GetName()), span[0]+1, span[1]+1)
		}
	}
	return fmt.Sprintf("(%s) (%s)", o.name, printable.Text(file.GetName()))
}

// parseOption reads one of our options from the options of a service or method. If the option with its number is not
// ours, parseOption notes that and returns no option.
func (r *reader) parseOption(at position, options proto.Message, ours protoreflect.ExtensionType) (option proto.Message, found bool) {
	wire, isMessage, found := rawOption(options.ProtoReflect(), ours.TypeDescriptor().Number())
	if !found {
		return nil, false
	}
	at = at.at(ours.TypeDescriptor())
	note := func(format string, args ...any) {
		if at.file.Generate {
			at.problem(format, args...)
		}
	}
	name, number := ours.TypeDescriptor().FullName(), ours.TypeDescriptor().Number()
	if foreign := r.foreign.seenBy(at.file.Desc.Path(), ours.TypeDescriptor()); foreign != "" {
		note("has the option %s, whose number %d is that of (%s): give it another number", foreign, number, name)
		return nil, true
	}
	option = ours.New().Message().Interface()
	if !isMessage || proto.Unmarshal(wire, option) != nil {
		note("has an option with the number %d, which is not (%s), whose number that is, and which no file of the request defines: give it another number", number, name)
		return nil, true
	}
	return option, true
}

// rawOption returns the bytes of an option that was not parsed. A message may be written in parts, which are joined.
func rawOption(options protoreflect.Message, number protowire.Number) (wire []byte, isMessage, found bool) {
	isMessage = true
	for unknown := options.GetUnknown(); len(unknown) > 0; {
		n, kind, length := protowire.ConsumeField(unknown)
		if length < 0 {
			break // cannot be: it was parsed before
		}
		if n == number {
			found = true
			isMessage = isMessage && kind == protowire.BytesType
			if kind == protowire.BytesType {
				_, _, tag := protowire.ConsumeTag(unknown)
				part, _ := protowire.ConsumeBytes(unknown[tag:])
				wire = append(wire, part...)
			}
		}
		unknown = unknown[length:]
	}
	return wire, isMessage, found
}
