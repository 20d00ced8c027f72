package gen

import (
	"strconv"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/gofeaturespb"
)

// renderAffinityClient writes the client of a service that has methods with an
// affinity: that of protoc-gen-go-grpc, with such methods of its own before those.
func renderAffinityClient(g *protogen.GeneratedFile, s *service) {
	methods := s.withAffinity()
	if len(methods) == 0 {
		return
	}
	name := affinityClientName(s.proto)
	comment(g, name, " is a ", clientName(s.proto), " that takes the affinity of calls from their requests.")
	g.P("type ", name, " struct {")
	g.P(clientName(s.proto))
	g.P("}")
	g.P()
	for _, m := range methods {
		renderAffinityMethod(g, s, m)
	}
}

func renderAffinityMethod(g *protogen.GeneratedFile, s *service, m *method) {
	fields, err := affinityPath(m.proto.Input, m.options.GetAffinity())
	if err != nil {
		panic(err) // cannot be: it was checked
	}
	comment(g, m.proto.GoName, " takes the affinity from ", m.options.GetAffinity(), ".")
	deprecated(g, m.proto.Desc)
	g.P("func (c ", affinityClientName(s.proto), ") ", m.proto.GoName, "(ctx ", contextPackage.Ident("Context"), ", in *", m.proto.Input.GoIdent,
		", opts ...", grpcPackage.Ident("CallOption"), ") (", resultType(g, s, m), ", error) {")
	g.P("if _, ok := ", runtimePackage.Ident("Affinity"), "(ctx); !ok {")
	renderAffinityOf(g, fields)
	g.P("}")
	g.P("return c.", clientName(s.proto), ".", m.proto.GoName, "(ctx, in, opts...)")
	g.P("}")
	g.P()
}

// resultType is what the client's method returns. The stream types have had their
// names in every version of protoc-gen-go-grpc, of late as aliases.
func resultType(g *protogen.GeneratedFile, s *service, m *method) string {
	if m.proto.Desc.IsStreamingServer() {
		return s.proto.GoName + "_" + m.proto.GoName + "Client"
	}
	return "*" + g.QualifiedGoIdent(m.proto.Output.GoIdent)
}

// renderAffinityOf writes the statements that put the value of the last field into the
// context. The way there is through getters, which no message that is missing stops.
func renderAffinityOf(g *protogen.GeneratedFile, fields []*protogen.Field) {
	message, last := "in", fields[len(fields)-1]
	for _, field := range fields[:len(fields)-1] {
		message += getter(field)
	}
	value := message + getter(last)
	if defaultsToValue(last.Desc) {
		g.P(presence(g, message, last))
		defer g.P("}")
	}
	if last.Desc.Kind() == protoreflect.BoolKind {
		g.P("if ", value, " {")
	} else {
		g.P("if value := ", value, "; ", isSet(last.Desc), " {")
	}
	g.P("ctx = ", runtimePackage.Ident("WithAffinity"), "(ctx, ", spelling(g, last.Desc), ")")
	g.P("}")
}

// getter is the call of a field's. The hybrid API may have two for one field, of which
// that of the opaque API is there with the build tag protoopaque, too.
func getter(field *protogen.Field) string {
	name, compatible := field.MethodName("Get")
	if opaque := "Get" + field.BuilderFieldName(); compatible == opaque {
		name = opaque
	}
	return "." + name + "()"
}

// defaultsToValue tells whether the getter may return something where the field is not
// set: an enum of proto2 need not have a value 0.
func defaultsToValue(field protoreflect.FieldDescriptor) bool {
	return field.HasDefault() || field.Enum() != nil && field.Default().Enum() != 0
}

// presence begins an if that tells whether the field of a message is set.
func presence(g *protogen.GeneratedFile, message string, field *protogen.Field) string {
	switch oneof := field.Oneof; {
	case field.Parent.APILevel != gofeaturespb.GoFeatures_API_OPEN:
		has, _ := field.MethodName("Has")
		return "if " + message + "." + has + "() {"
	case oneof != nil && !oneof.Desc.IsSynthetic():
		return "if _, ok := " + message + ".Get" + oneof.GoName + "().(*" + g.QualifiedGoIdent(field.GoIdent) + "); ok {"
	default:
		return "if m := " + message + "; m != nil && m." + field.GoName + " != nil {"
	}
}

// isSet is the condition under which a value makes an affinity.
func isSet(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.StringKind:
		return `value != ""`
	case protoreflect.BytesKind:
		return "len(value) > 0"
	default:
		return "value != 0"
	}
}

// spelling is the expression that makes text of a value.
func spelling(g *protogen.GeneratedFile, field protoreflect.FieldDescriptor) string {
	decimal := func(function, value string) string {
		return g.QualifiedGoIdent(strconvPackage.Ident(function)) + "(" + value + ", 10)"
	}
	switch field.Kind() {
	case protoreflect.BoolKind:
		return strconv.Quote("true") // false is no affinity
	case protoreflect.StringKind:
		return "value"
	case protoreflect.BytesKind:
		return "string(value)"
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return decimal("FormatInt", "value")
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return decimal("FormatUint", "value")
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return decimal("FormatUint", "uint64(value)")
	default:
		return decimal("FormatInt", "int64(value)")
	}
}
