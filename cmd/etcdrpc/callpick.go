package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// callees returns the instances that clients send a call of a method to, in the order in which to try them: at random,
// by their shares of the calls under the live policy. random returns numbers from 0 to below 1.
func (s *service) callees(method string, random func() float64) ([]instance, error) {
	shares := s.shares()
	type drawn struct {
		instance
		at float64
	}
	var order []drawn
	for _, i := range s.merged().instances {
		if share := shares[i.Addr]; share > 0 && i.serves(method) {
			// The greatest of such powers is that of each instance in proportion to its share.
			order = append(order, drawn{i, math.Pow(random(), 1/share)})
		}
	}
	slices.SortStableFunc(order, func(a, b drawn) int { return cmp.Compare(b.at, a.at) })
	all := make([]instance, len(order))
	for n, d := range order {
		all[n] = d.instance
	}
	if len(all) == 0 {
		return nil, s.noCallee(method)
	}
	return all, nil
}

// shares returns the share of the calls that each address gets by the live policy, or the same for each if clients go
// by none.
func (s *service) shares() map[string]float64 {
	shares := make(map[string]float64)
	if x, err := explain(s, caller{}); err == nil {
		for _, i := range x.Instances {
			shares[i.Addr] = max(shares[i.Addr], i.Share)
		}
		return shares
	}
	for _, i := range s.merged().instances {
		shares[i.Addr] = 1
	}
	return shares
}

// everyCallee returns all instances but those that are drained. A drain of all counts for nothing, as it does for clients.
func (s *service) everyCallee(method string) (callees []instance, drained []string, err error) {
	m := s.merged()
	names := m.drainNames()
	all := m.checkLeft(names) != nil
	for _, i := range m.instances {
		switch {
		case !i.serves(method):
		case i.isDrained(names) && !all:
			drained = append(drained, i.Instance)
		default:
			callees = append(callees, i)
		}
	}
	if len(callees) == 0 {
		return nil, nil, s.noCallee(method)
	}
	return callees, drained, nil
}

// drainNames returns the list of the live config.
func (s *service) drainNames() []string {
	if s.config == nil {
		return nil
	}
	return drainList(s.config.value)
}

// noCallee says why there is nothing to call.
func (s *service) noCallee(method string) error {
	serve := func(i instance) bool { return i.serves(method) }
	switch {
	case len(s.instances) == 0 && len(s.malformed) > 0:
		return fmt.Errorf("no client can read the %s under this key: etcdrpc doctor %s says why", entriesText(len(s.malformed)), shell(s.key))
	case len(s.instances) == 0:
		return errors.New("no instance is registered under this key: etcdrpc ls shows what there is")
	case !slices.ContainsFunc(s.instances, serve):
		return fmt.Errorf("no instance says that it serves %s: there are %s", method, someOf(s.methods()))
	case len(s.merged().instances) == 0:
		return errors.New("every instance is being withdrawn by its owner: --instance ID calls one all the same")
	}
	return fmt.Errorf("clients call no instance that serves %s: etcdrpc policy explain %s says why; --instance ID calls one all the same", method, shell(s.key))
}

func entriesText(n int) string {
	if n == 1 {
		return "entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// serves reports whether an instance says that it serves a method, or does not say what it serves. No instance says that of
// gRPC's own services.
func (i *instance) serves(method string) bool {
	if isInfrastructure(strings.TrimPrefix(method, "/")) {
		return true
	}
	declared := declaredMethods(&i.Endpoint)
	return len(declared) == 0 || slices.ContainsFunc(declared, func(full string) bool { return isMethod(full, method) })
}

// methods returns the methods that the instances say they serve, each once.
func (s *service) methods() []string {
	var all []string
	for n := range s.instances {
		all = append(all, declaredMethods(&s.instances[n].Endpoint)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// declaredMethods returns the methods that an endpoint says it serves, as "package.Service/Method".
func declaredMethods(e *endpoint.Endpoint) (all []string) {
	text := e.Metadata[endpoint.MethodsName]
	if len(text) > endpoint.MaxMethods {
		return nil
	}
	for service := range strings.SplitSeq(text, ";") {
		name, methods, ok := strings.Cut(service, "/")
		if !ok {
			continue
		}
		for method := range strings.SplitSeq(methods, ",") {
			all = append(all, name+"/"+method)
		}
	}
	return all
}

// isMethod reports whether a method, "package.Service/Method", is meant by a name: all of it, without the package, or the
// method alone.
func isMethod(full, name string) bool {
	name = strings.TrimPrefix(name, "/")
	rest, ok := strings.CutSuffix(full, name)
	return ok && (rest == "" || strings.HasSuffix(rest, "/") || strings.Contains(name, "/") && strings.HasSuffix(rest, "."))
}
