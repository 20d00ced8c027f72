package gen

import (
	"strconv"

	"google.golang.org/protobuf/compiler/protogen"
)

func renderConnectClient(g *protogen.GeneratedFile, s *service, out output) {
	describeNewClient(g, s)

	methods := s.withAffinity()
	requests := make([]protogen.GoIdent, len(methods))
	for i, m := range methods {
		requests[i] = m.proto.Input.GoIdent
	}

	local := notHiding(g, requests...)
	registry := local("registry")
	opts := local("opts")

	g.P("func ", newClientName(s.proto), "(",
		registry, " *", runtimePackage.Ident("Registry"), ", ",
		opts, " ...", grpcPackage.Ident("DialOption"),
		") (", out.importPath.Ident(clientName(s.proto)), ", error) {")

	if len(methods) > 0 {
		g.P(opts, " = append(", opts, "[:len(", opts, "):len(", opts, ")],")

		for _, m := range methods {
			renderConnectAffinity(g, s, m)
		}

		g.P(")")
	}

	g.P("return ", bridgePackage.Ident("NewClient"), "(", registry,
		", &", descName(s.proto),
		", ", out.importPath.Ident("New"+clientName(s.proto)),
		", ", opts, "...)")
	g.P("}")
	g.P()
}

// renderConnectAffinity writes the option that derives the affinity of a
// method's calls from their requests.
func renderConnectAffinity(g *protogen.GeneratedFile, s *service, m *method) {
	fields, err := affinityPath(m.proto.Input, m.options.GetAffinity())
	if err != nil {
		panic(err) // not reached: checkAffinity accepted the path
	}

	comment(g, m.proto.GoName, " takes the affinity from ", m.options.GetAffinity(), ".")

	procedure := "/" + string(s.proto.Desc.FullName()) + "/" + string(m.proto.Desc.Name())
	g.P(bridgePackage.Ident("WithAffinity"), "(", strconv.Quote(procedure),
		", func(in *", m.proto.Input.GoIdent, ") string {")
	renderAffinityOf(g, fields, func(key string) { g.P("return ", key) })
	g.P(`return ""`)
	g.P("}),")
}

func renderConnectRegister(g *protogen.GeneratedFile, s *service, out output) {
	name := registerHandlerName(s.proto)
	describeRegister(g, s, name)

	g.P("func ", name,
		"(server *", bridgePackage.Ident("Server"),
		", impl ", out.importPath.Ident(handlerName(s.proto)),
		", opts ...", connectPackage.Ident("HandlerOption"), ") {")
	g.P(bridgePackage.Ident("Register"), "(server, &", descName(s.proto), ", ",
		out.importPath.Ident("New"+handlerName(s.proto)), ", impl, opts...)")
	g.P("}")
	g.P()
}
