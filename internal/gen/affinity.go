package gen

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkAffinity reports problems of the affinity of a method, given its
// service's load balancing.
func checkAffinity(m *method, lb *discoveryv1.LoadBalancing) {
	path := m.options.GetAffinity()
	if path == "" {
		return
	}

	at := m.option.in("affinity")
	_, err := affinityPath(m.proto.Input, path)

	switch {
	case m.proto.Desc.IsStreamingClient():
		at.problem(
			"is for methods with one request, and this one streams them: leave it out")
	case err != nil:
		at.problem("%q %v", path, err)
	}

	if policy := policyName(lb); policy != "" && policy != "ring_hash" {
		at.problem("needs the policy ring_hash, but the service has %s: name ring_hash, or no policy", policy)
	}
}

// policyName returns the name of the policy field that is set, "" if none is.
func policyName(lb *discoveryv1.LoadBalancing) protoreflect.Name {
	m := lb.ProtoReflect()
	if fd := m.WhichOneof(m.Descriptor().Oneofs().ByName("policy")); fd != nil {
		return fd.Name()
	}

	return ""
}

// affinityPath returns the fields of a request along the path of an affinity:
// message fields, and last the field with the value. The error continues a
// sentence that begins with the path.
func affinityPath(request *protogen.Message, path string) ([]*protogen.Field, error) {
	names := strings.Split(path, ".")
	if slices.Contains(names, "") {
		return nil, errors.New(
			`is not a path: name fields with a single dot between them, such as "user.id"`)
	}

	var fields []*protogen.Field
	message := request
	for _, name := range names {
		if message == nil {
			return nil, fmt.Errorf("goes on after %s, which has no fields: end it there",
				fields[len(fields)-1].Desc.Name())
		}

		field, err := singularField(message, name)
		if err != nil {
			return nil, err
		}

		fields = append(fields, field)
		message = field.Message
	}

	end := fields[len(fields)-1].Desc
	kind := end.Kind()

	switch {
	case kind == protoreflect.MessageKind || kind == protoreflect.GroupKind:
		return nil, fmt.Errorf("ends at the message %s: go on to one of its fields",
			message.Desc.FullName())
	case kind == protoreflect.FloatKind || kind == protoreflect.DoubleKind:
		return nil, fmt.Errorf("ends at a %v, whose equal values may differ as text: take a field of another type", kind)
	case kind == protoreflect.BoolKind && end.Default().Bool():
		return nil, errors.New("ends at a bool that is true by default, for which no call would have an affinity: take another field")
	}

	return fields, nil
}

func singularField(message *protogen.Message, name string) (*protogen.Field, error) {
	i := slices.IndexFunc(message.Fields, func(field *protogen.Field) bool {
		return string(field.Desc.Name()) == name
	})
	if i < 0 {
		if other := message.Desc.Fields().ByJSONName(name); other != nil {
			return nil, fmt.Errorf(
				"spells a field of %s %q: write %s, as the proto file does",
				message.Desc.FullName(), name, other.Name())
		}

		return nil, fmt.Errorf(
			"leads nowhere, because %s has no field %q: name one that it has",
			message.Desc.FullName(), name)
	}

	field := message.Fields[i]
	switch {
	case field.Desc.IsMap():
		return nil, fmt.Errorf(
			"leads through the map %s: take a field that has one value", name)
	case field.Desc.IsList():
		return nil, fmt.Errorf(
			"leads through the repeated field %s: take a field that has one value", name)
	}

	return field, nil
}

// renderAffinityClient writes a client that overrides the methods with an
// affinity, if there are any. The written client embeds the client of
// protoc-gen-go-grpc under an alias: an embedded field has the name of its
// type, and a method of the service may have that name.
func renderAffinityClient(g *protogen.GeneratedFile, s *service) {
	methods := s.withAffinity()
	if len(methods) == 0 {
		return
	}

	name := affinityClientName(s.proto)
	plain := plainClientName(s.proto)
	comment(g, name, " is a ", clientName(s.proto),
		" that takes the affinity of calls from their requests.")
	g.P("type ", name, " struct {")
	g.P(plain)
	g.P("}")
	g.P()
	g.P("type ", plain, " = ", s.grpcIdent(clientName(s.proto)))
	g.P()

	for _, m := range methods {
		renderAffinityMethod(g, s, m)
	}
}

func renderAffinityMethod(g *protogen.GeneratedFile, s *service, m *method) {
	fields, err := affinityPath(m.proto.Input, m.options.GetAffinity())
	if err != nil {
		panic(err) // not reached: checkAffinity accepted the path
	}

	comment(g, m.proto.GoName, " takes the affinity from ", m.options.GetAffinity(), ".")
	deprecated(g, m.proto.Desc)

	g.P("func (c ", affinityClientName(s.proto), ") ", m.proto.GoName,
		"(ctx ", contextPackage.Ident("Context"),
		", in *", m.proto.Input.GoIdent,
		", opts ...", grpcPackage.Ident("CallOption"),
		") (", resultType(g, s, m), ", error) {")
	g.P("if _, ok := ", runtimePackage.Ident("Affinity"), "(ctx); !ok {")
	renderAffinityOf(g, fields, func(key string) {
		g.P("ctx = ", runtimePackage.Ident("WithAffinity"), "(ctx, ", key, ")")
	})
	g.P("}")
	g.P("return c.", plainClientName(s.proto), ".", m.proto.GoName, "(ctx, in, opts...)")
	g.P("}")
	g.P()
}

// resultType returns the result type of the client's method. Every version of
// protoc-gen-go-grpc declares stream types with these names, recent versions as
// aliases.
func resultType(g *protogen.GeneratedFile, s *service, m *method) string {
	if m.proto.Desc.IsStreamingServer() {
		return g.QualifiedGoIdent(
			s.grpcIdent(s.proto.GoName + "_" + m.proto.GoName + "Client"))
	}

	return "*" + g.QualifiedGoIdent(m.proto.Output.GoIdent)
}

// renderAffinityOf writes an if statement, whose body use writes. The body runs
// if the field at the end of the path gives an affinity: see isSet. key is the
// Go expression of the field's value as a string.
//
// The generated code follows the path by getters, which accept nil messages.
// From the first field with a name conflict on, the code uses reflection. The
// getter of such a field has another name in the opaque API than in the open
// API, and the request does not say which API a message is generated for.
func renderAffinityOf(
	g *protogen.GeneratedFile,
	fields []*protogen.Field,
	use func(key string),
) {
	value := "in"
	end := fields[len(fields)-1].Desc
	reflected := false
	for i, field := range fields {
		if !reflected && field.GoName != field.BuilderFieldName() {
			reflected = true
			g.P("message := ", value, ".ProtoReflect()")
		}

		switch {
		case !reflected:
			value += ".Get" + field.GoName + "()"
		case i < len(fields)-1:
			g.P("message = ", byNumber(field), ".Message()")
		default:
			value = byNumber(field) + "." + reflectedType(field.Desc) + "()"
		}
	}

	if end.Kind() == protoreflect.BoolKind {
		g.P("if ", value, " {")
	} else {
		g.P("if value := ", value, "; ", isSet(end), " {")
	}

	use(spelling(g, end, reflected))
	g.P("}")
}

// byNumber returns the expression for a field of a message by reflection.
func byNumber(field *protogen.Field) string {
	return fmt.Sprintf("message.Get(message.Descriptor().Fields().ByNumber(%d))",
		field.Desc.Number())
}

// reflectedType returns the name of the method of protoreflect.Value that
// returns a field's value.
func reflectedType(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return "Bool"
	case protoreflect.EnumKind:
		return "Enum"
	case protoreflect.StringKind:
		return "String"
	case protoreflect.BytesKind:
		return "Bytes"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind,
		protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "Uint"
	default:
		return "Int"
	}
}

// isSet returns the Go condition under which a value is an affinity: the value
// is neither zero nor the field's default, which the getter returns for an
// unset field. The default of a proto2 field need not be zero.
func isSet(field protoreflect.FieldDescriptor) string {
	byDefault := field.Default()

	switch field.Kind() {
	case protoreflect.StringKind:
		text := strconv.Quote(byDefault.String())
		return unlessDefault(`value != ""`, "value", text, `""`)

	case protoreflect.BytesKind:
		text := strconv.Quote(string(byDefault.Bytes()))
		return unlessDefault("len(value) > 0", "string(value)", text, `""`)

	default:
		return unlessDefault("value != 0", "value", byDefault.String(), "0")
	}
}

// unlessDefault extends a condition by "the value is not the field's default",
// unless the default is zero.
func unlessDefault(condition, value, byDefault, zero string) string {
	if byDefault == zero {
		return condition
	}

	return condition + " && " + value + " != " + byDefault
}

// spelling returns the Go expression that formats a value as a string. Values
// read by reflection have the widest type of their kind.
func spelling(
	g *protogen.GeneratedFile,
	field protoreflect.FieldDescriptor,
	reflected bool,
) string {
	kind := field.Kind()
	function := "FormatInt"
	conversion := "int64"
	widest := reflected && kind != protoreflect.EnumKind

	switch kind {
	case protoreflect.BoolKind:
		return strconv.Quote("true") // isSet excludes false
	case protoreflect.StringKind:
		return "value"
	case protoreflect.BytesKind:
		return "string(value)"

	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		widest = true

	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		function = "FormatUint"
		widest = true

	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		function = "FormatUint"
		conversion = "uint64"
	}

	value := "value"
	if !widest {
		value = conversion + "(value)"
	}

	return g.QualifiedGoIdent(strconvPackage.Ident(function)) + "(" + value + ", 10)"
}
