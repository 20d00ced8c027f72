package gen

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// renderAffinityClient writes the client of a service that has methods with an
// affinity: the one of protoc-gen-go-grpc, with such methods of its own before those. It embeds that under
// another name, for a method may have the Go name of the client.
func renderAffinityClient(g *protogen.GeneratedFile, s *service) {
	methods := s.withAffinity()
	if len(methods) == 0 {
		return
	}
	name, plain := affinityClientName(s.proto), plainClientName(s.proto)
	comment(g, name, " is a ", clientName(s.proto), " that takes the affinity of calls from their requests.")
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
		panic(err) // cannot be: it was checked
	}
	comment(g, m.proto.GoName, " takes the affinity from ", m.options.GetAffinity(), ".")
	deprecated(g, m.proto.Desc)
	g.P("func (c ", affinityClientName(s.proto), ") ", m.proto.GoName, "(ctx ", contextPackage.Ident("Context"), ", in *", m.proto.Input.GoIdent,
		", opts ...", grpcPackage.Ident("CallOption"), ") (", resultType(g, s, m), ", error) {")
	g.P("if _, ok := ", runtimePackage.Ident("Affinity"), "(ctx); !ok {")
	renderAffinityOf(g, fields, func(key string) {
		g.P("ctx = ", runtimePackage.Ident("WithAffinity"), "(ctx, ", key, ")")
	})
	g.P("}")
	g.P("return c.", plainClientName(s.proto), ".", m.proto.GoName, "(ctx, in, opts...)")
	g.P("}")
	g.P()
}

// resultType is what the client's method returns. The stream types have had their
// names in every version of protoc-gen-go-grpc, of late as aliases.
func resultType(g *protogen.GeneratedFile, s *service, m *method) string {
	if m.proto.Desc.IsStreamingServer() {
		return g.QualifiedGoIdent(s.grpcIdent(s.proto.GoName + "_" + m.proto.GoName + "Client"))
	}
	return "*" + g.QualifiedGoIdent(m.proto.Output.GoIdent)
}

// renderAffinityOf writes the statements that use the value of the last field, as use writes it for an expression of it, if
// it makes an affinity. The way there is through getters, which no message that is missing stops. From the first
// field on whose getter may have another name, it is through reflection.
func renderAffinityOf(g *protogen.GeneratedFile, fields []*protogen.Field, use func(key string)) {
	value, last := "in", fields[len(fields)-1]
	reflected := false
	for i, field := range fields {
		if !reflected && !hasOneGetter(field) {
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
	if last.Desc.Kind() == protoreflect.BoolKind {
		g.P("if ", value, " {")
	} else {
		g.P("if value := ", value, "; ", isSet(last.Desc), " {")
	}
	use(spelling(g, last.Desc, reflected))
	g.P("}")
}

// hasOneGetter reports whether the field's getter has one name in the open, the hybrid and the opaque API.
// The request does not say which of them a message is generated for: parameters of protoc-gen-go and build
// tags have a say.
func hasOneGetter(field *protogen.Field) bool {
	return field.GoName == field.BuilderFieldName()
}

// byNumber is the expression for a field of a message by reflection.
func byNumber(field *protogen.Field) string {
	return fmt.Sprintf("message.Get(message.Descriptor().Fields().ByNumber(%d))", field.Desc.Number())
}

// reflectedType is the method of a reflected value that returns what the field holds.
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
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "Uint"
	default:
		return "Int"
	}
}

// isSet is the condition under which a value makes an affinity. Without one is the value that the getter
// returns where the field is not set: an enum of proto2 need not have a value 0.
func isSet(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.StringKind:
		return unlessDefault(`value != ""`, "value", strconv.Quote(field.Default().String()), `""`)
	case protoreflect.BytesKind:
		return unlessDefault("len(value) > 0", "string(value)", strconv.Quote(string(field.Default().Bytes())), `""`)
	case protoreflect.EnumKind:
		return unlessDefault("value != 0", "value", fmt.Sprint(field.Default().Enum()), "0")
	default:
		return unlessDefault("value != 0", "value", field.Default().String(), "0")
	}
}

// unlessDefault adds to a condition that the value is not the field's default, if that is not zero.
func unlessDefault(condition, value, byDefault, zero string) string {
	if byDefault == zero {
		return condition
	}
	return condition + " && " + value + " != " + byDefault
}

// spelling is the expression that makes text of a value. One that was reflected has the widest type of its
// kind.
func spelling(g *protogen.GeneratedFile, field protoreflect.FieldDescriptor, reflected bool) string {
	decimal := func(function, as string) string {
		value := "value"
		if as != "" {
			value = as + "(value)"
		}
		return g.QualifiedGoIdent(strconvPackage.Ident(function)) + "(" + value + ", 10)"
	}
	switch kind := field.Kind(); kind {
	case protoreflect.BoolKind:
		return strconv.Quote("true") // false is no affinity
	case protoreflect.StringKind:
		return "value"
	case protoreflect.BytesKind:
		return "string(value)"
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return decimal("FormatInt", "")
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return decimal("FormatUint", "")
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		if reflected {
			return decimal("FormatUint", "")
		}
		return decimal("FormatUint", "uint64")
	default:
		if reflected && kind != protoreflect.EnumKind {
			return decimal("FormatInt", "")
		}
		return decimal("FormatInt", "int64")
	}
}
