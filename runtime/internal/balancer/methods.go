package balancer

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// methodsDiffer reports whether some endpoints name other methods than others.
func (p *plan) methodsDiffer() bool {
	from := 0
	if s := p.in.summary; s != nil { // it is of those that have not left
		if len(s.Methods) > 1 {
			return true
		}
		from = p.live
	}
	for i := from; i < len(p.endpoints); i++ {
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
				if len(c.texts) == methods.MaxTexts {
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
