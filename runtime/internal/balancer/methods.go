package balancer

import (
	"slices"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// methodsDiffer reports whether the endpoints list different methods. prefix
// and suffix are the numbers of live endpoints, at the start and at the end,
// that both plans have.
func (p *connPlan) methodsDiffer(previous *connPlan, prefix, suffix int) bool {
	if prefix+suffix == 0 || previous.differ {
		return slices.ContainsFunc(p.All, func(b *model.Backend) bool {
			return b.Methods != p.All[0].Methods
		})
	}

	for i := range p.outside(prefix, suffix) {
		if p.All[i].Methods != previous.All[0].Methods {
			return true
		}
	}

	return false
}

// methodTexts returns the distinct method lists of members, or nil if there are
// more than methods.MaxTexts.
func (p *connPlan) methodTexts(members []int32) (texts []string) {
	for _, m := range members {
		text := p.All[m].Methods
		switch {
		case len(texts) > 0 && text == texts[len(texts)-1], slices.Contains(texts, text):
		case len(texts) == methods.MaxTexts:
			return nil
		default:
			texts = append(texts, text)
		}
	}

	return texts
}

// lacking returns the method lists of the view's endpoints that must not get
// calls of method. It returns nil if there are none, or if all endpoints of the
// view and its base have such lists. The view must be open.
func (v *view) lacking(method string) []string {
	var others []string
	if v.base != nil {
		others = v.base.texts // set, because every plan opens its base
	}

	return methods.Lacking(method, v.texts, others)
}

// maxMethod bounds the length of method names that are looked up in method
// lists. No server has longer names.
const maxMethod = 1024

// methodOf returns the method that the endpoint of a call must serve, or "" if
// any endpoint will do.
func (p *connPlan) methodOf(info *balancer.PickInfo) string {
	if !p.differ || len(info.FullMethodName) > maxMethod {
		return ""
	}

	return info.FullMethodName
}

// maxMethods bounds the methods that a plan keeps. A caller other than a proxy
// calls few methods.
const maxMethods = 64

// need records a method that a call needs and some endpoints lack. Then the
// core connects to an endpoint with the method.
func (p *connPlan) need(method string) {
	if !p.picksSome() {
		return
	}

	p.mu.Lock()
	defer p.mu.Unlock()

	if !slices.Contains(p.methods, method) {
		oldest := max(0, len(p.methods)+1-maxMethods) // the oldest that stays
		p.methods = append(slices.Clip(p.methods[oldest:]), method)
		p.demanded()
	}
}

// needs returns the methods that calls need and that some endpoints lack.
func (p *connPlan) needs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.methods[:len(p.methods):len(p.methods)]
}
