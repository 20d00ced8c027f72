package balancer

import (
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// maxClasses bounds how many sets of methods are told apart among the endpoints of a lane, and how many sets of endpoints
// are made of them. A rollout makes one; beyond the bound, methods go to all endpoints.
const maxClasses = 8

// methodsDiffer reports whether some endpoints name other methods than others.
func (p *plan) methodsDiffer() bool {
	if s := p.in.summary; s != nil {
		return len(s.Methods) > 1
	}
	for i := range p.endpoints {
		if attr.Methods(p.endpoints[i]) != attr.Methods(p.endpoints[0]) {
			return true
		}
	}
	return false
}

// classes are the distinct texts in which the endpoints of a lane name the methods that they serve.
type classes struct {
	texts []string // nil: there are too many to tell apart, or they do not differ
	of    []uint8  // of each member
}

// classesOf returns the classes of members.
func (p *plan) classesOf(members []int32) (c classes) {
	if !p.differ {
		return classes{} // whatever the method, it is served by all or by none
	}
	c.of = make([]uint8, len(members))
	class := 0
	for i, m := range members {
		text := attr.Methods(p.endpoints[m])
		if i == 0 || text != c.texts[class] {
			if class = slices.Index(c.texts, text); class < 0 {
				if len(c.texts) == maxClasses {
					return classes{}
				}
				class = len(c.texts)
				c.texts = append(c.texts, text)
			}
		}
		c.of[i] = uint8(class)
	}
	return c
}

// everyClass stands for all classes of a lane.
const everyClass = ^uint32(0)

// serving returns the classes that serve a method, as bits: those that name it, and those that name no methods at all. If
// nobody names it, those that name other methods of its service do not serve it. others are the texts of the base: elsewhere
// reports that only these serve the method. Then, and where nobody does, all classes are returned.
func serving(method string, texts, others []string) (in uint32, elsewhere bool) {
	if len(texts) == 0 {
		return everyClass, false
	}
	service, name := splitMethod(method)
	named, known := false, false
	for _, text := range slices.Concat(texts, others) {
		named = named || names(text, service, name)
		known = known || names(text, service, "")
	}
	if !known {
		return everyClass, false
	}
	serves := func(text string) bool {
		return text == "" || named && names(text, service, name) || !named && !names(text, service, "")
	}
	n := 0
	for i, text := range texts {
		if serves(text) {
			in |= 1 << i
			n++
		}
	}
	switch n {
	case 0:
		return everyClass, slices.ContainsFunc(others, serves)
	case len(texts):
		return everyClass, false
	}
	return in, false
}

// splitMethod returns the service and the name of a full method name, "/helloworld.Greeter/SayHello".
func splitMethod(method string) (service, name string) {
	service, name, _ = strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return service, name
}

// names reports whether a text such as "helloworld.Greeter/SayHello,SayBye;helloworld.Other/Do" names a method of a service,
// or any if method is "".
func names(text, service, method string) bool {
	for part := range strings.SplitSeq(text, ";") {
		rest, ok := strings.CutPrefix(part, service)
		if !ok || !strings.HasPrefix(rest, "/") {
			continue
		}
		if method == "" || namesMethod(rest[1:], method) {
			return true
		}
	}
	return false
}

// namesMethod reports whether a list such as "SayHello,SayBye" has a method.
func namesMethod(list, method string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if name == method {
			return true
		}
	}
	return false
}
