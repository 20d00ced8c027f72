package gen

import (
	"cmp"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/compiler/protogen"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkLeader reports an affinity of a method with "to: LEADER", and a "to" in
// default_method.
func checkLeader(s *service) {
	if s.options.GetDefaultMethod().GetTo() != discoveryv1.To_TO_UNSPECIFIED {
		s.option.in("default_method").in("to").problem(
			"belongs to the service or to one method: write it there")
	}

	for _, m := range s.methods {
		if s.to(m.options) == discoveryv1.To_LEADER && m.options.GetAffinity() != "" {
			m.option.in("affinity").problem(
				"has no effect with to: LEADER: leave one of them out")
		}
	}
}

// to returns the option "to" in the options m of a method or, if m is nil or
// does not set "to", in the service's options.
func (s *service) to(m *discoveryv1.MethodOptions) discoveryv1.To {
	return cmp.Or(m.GetTo(), s.options.GetTo())
}

// leaderMethods returns the full names of the methods whose calls go to the
// leader, in the file's order.
func (s *service) leaderMethods() []string {
	options := make(map[*protogen.Method]*discoveryv1.MethodOptions)
	for _, m := range s.methods {
		options[m.proto] = m.options
	}

	var names []string
	for _, m := range s.proto.Methods {
		if s.to(options[m]) == discoveryv1.To_LEADER {
			names = append(names,
				fmt.Sprintf("/%s/%s", s.proto.Desc.FullName(), m.Desc.Name()))
		}
	}

	return names
}

func renderLeader(g *protogen.GeneratedFile, s *service) {
	names := s.leaderMethods()
	if len(names) == 0 {
		return
	}

	g.P("Extension: ", leaderPackage.Ident("Methods"), "{")

	for _, name := range names {
		g.P(strconv.Quote(name), ",")
	}

	g.P("},")
}
