package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// linkedPolicies are the policies that every client of this project links. Others are imported by the code of services
// whose protos name them, which etcd does not hold.
var linkedPolicies = []string{
	serviceconfig.EtcdName, serviceconfig.LeastRequestName, serviceconfig.PeakEwmaName, serviceconfig.PickFirstName,
	serviceconfig.RingHashName, serviceconfig.RoundRobinName, serviceconfig.WeightedName,
}

// checkPolicy finds what is wrong with the live policy of a service.
func (p *patient) checkPolicy(s *service) (all []finding) {
	if s.config == nil || endpoint.CheckKey(s.key) != nil { // no client reads the policy of a bad key, nor does a command take it
		return nil
	}
	key := p.full(s.config.key)
	config, err := serviceconfig.ParseLive(string(s.config.value))
	if err != nil {
		all = append(all, finding{kindBadPolicy, []string{key}, "clients do not go by the live policy: " + err.Error(),
			fmt.Sprintf("etcdrpc policy set %[1]s FILE puts a good one in its place; etcdrpc policy rm %[1]s goes back to the generated one", p.word(s.key))})
	} else {
		all = append(all, p.checkLinked(s, config)...)
	}
	switch {
	case s.closed:
		return all
	case !s.inUse():
		return append(all, finding{kindOrphanPolicy, []string{key}, fmt.Sprintf("there is a live policy for %s, but no instance", s.key),
			fmt.Sprintf("if the key is mistyped or the service gone: etcdrpc policy rm %s", p.word(s.key))})
	case err != nil || len(s.instances) == 0:
		return all
	}
	policy := livePolicy(s.config.value)
	if policy != nil {
		all = append(all, p.checkDrain(s, policy)...)
		all = append(all, p.checkSplit(s, policy)...)
	}
	all = append(all, p.checkLanes(s)...)
	return append(all, p.checkServed(s, config)...)
}

// checkLinked finds a policy that not every client links.
func (p *patient) checkLinked(s *service, config *serviceconfig.Config) []finding {
	err := config.Linked(func(name string) bool { return slices.Contains(linkedPolicies, name) })
	if err == nil {
		return nil
	}
	return []finding{{kindUnlinked, []string{p.full(s.config.key)},
		"clients refuse the live policy, and keep the last good one, unless their own code links what it names; those say that " + err.Error(),
		fmt.Sprintf("have every client of %[1]s link it, as generated code does whose proto names it, and then --skip %[2]s; "+
			"or etcdrpc policy set %[1]s FILE with another", p.word(s.key), kindUnlinked)}}
}

// checkDrain finds a drain of everything, which clients ignore, or of nothing.
func (p *patient) checkDrain(s *service, policy *serviceconfig.Etcd) (all []finding) {
	key := p.full(s.config.key)
	if m := s.merged(); len(m.instances) > 0 && m.checkLeft(policy.Drain) != nil {
		all = append(all, finding{kindBadPolicy, []string{key}, "the live policy drains every instance, so clients ignore that and call them all",
			fmt.Sprintf("etcdrpc undrain %s INSTANCE for those that are to be called", p.word(s.key))})
	}
	var absent []string
	for _, name := range policy.Drain {
		if !s.mayBeNamed(name) && !slices.ContainsFunc(s.instances, func(i instance) bool { return i.isDrained([]string{name}) }) {
			absent = append(absent, name)
		}
	}
	if len(absent) == 0 {
		return all
	}
	return append(all, finding{kindNoMatch, []string{key}, "the live policy drains what is not registered, so nothing is drained by it: " + quoted(absent),
		fmt.Sprintf("compare with etcdrpc ls %[1]s; what is gone for good: etcdrpc undrain %[1]s %[2]s", p.word(s.key), shell(absent[0]))})
}

// mayBeNamed reports whether an instance in home-made JSON may have a name: its json_layout may take the id from any field.
func (s *service) mayBeNamed(name string) bool {
	return !isAddress(name) && slices.ContainsFunc(s.instances, s.isMapped)
}

// checkSplit finds the groups of a split that have a share of the calls and no instance.
func (p *patient) checkSplit(s *service, policy *serviceconfig.Etcd) []finding {
	if slices.ContainsFunc(s.instances, s.isMapped) {
		return nil // a json_layout may give them other fields
	}
	used := make([]bool, len(policy.Split))
	matcher := serviceconfig.NewMatcher(policy.Split)
	for _, i := range s.merged().instances {
		if at := matcher.Match(i.Field); at >= 0 {
			used[at] = true
		}
	}
	var empty []string
	for at, split := range policy.Split {
		if !used[at] && split.Weight > 0 {
			match, err := json.Marshal(split.Match)
			if err != nil {
				panic(err) // cannot be: it is text
			}
			empty = append(empty, fmt.Sprintf("split[%d], of weight %d, %.200s", at, split.Weight, match))
		}
	}
	if len(empty) == 0 {
		return nil
	}
	return []finding{{kindNoMatch, []string{p.full(s.config.key)}, "no instance is in a group of the split, so the other groups get its calls: " + strings.Join(firstOf(empty), "; "),
		fmt.Sprintf("compare the match with what the instances say of themselves: etcdrpc policy get %[1]s; etcdrpc ls %[1]s -o json", p.word(s.key))}}
}

// checkServed finds the methods that a live policy configures and no instance serves. Nothing can be said if an instance
// does not say what it serves.
func (p *patient) checkServed(s *service, config *serviceconfig.Config) []finding {
	served, known := s.served()
	if !known {
		return nil
	}
	var absent []string
	for _, method := range config.Methods {
		for _, name := range method.Name {
			if name.Service != "" && !isInfrastructure(name.Service) && !served[name] {
				absent = append(absent, strings.TrimSuffix(name.Service+"/"+name.Method, "/"))
			}
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return []finding{{kindUnserved, []string{p.full(s.config.key)},
		"methodConfig of the live policy names what no instance serves, so it has no effect there: " + quoted(absent),
		fmt.Sprintf("name services and methods in full as the proto does, such as %s: etcdrpc policy set %s FILE", quoted(firstOf(servedNames(served))[:1]), p.word(s.key))}}
}

// isInfrastructure reports whether a gRPC service is one that servers have besides those that they publish, such as the
// health check.
func isInfrastructure(service string) bool { return strings.HasPrefix(service, "grpc.") }

// served returns the services and methods that the instances publish. known is false if one publishes none.
func (s *service) served() (served map[serviceconfig.MethodName]bool, known bool) {
	served = make(map[serviceconfig.MethodName]bool)
	for _, i := range s.merged().instances {
		text := i.Metadata[endpoint.MethodsName]
		if text == "" || len(text) > endpoint.MaxMethods {
			return nil, false
		}
		for part := range strings.SplitSeq(text, ";") {
			name, methods, ok := strings.Cut(part, "/")
			if !ok {
				return nil, false
			}
			served[serviceconfig.MethodName{Service: name}] = true
			for method := range strings.SplitSeq(methods, ",") {
				served[serviceconfig.MethodName{Service: name, Method: method}] = true
			}
		}
	}
	return served, len(served) > 0
}

// servedNames returns the full names of the methods that are served, sorted.
func servedNames(served map[serviceconfig.MethodName]bool) []string {
	names := make(map[string]bool, len(served))
	for name := range served {
		names[strings.TrimSuffix(name.Service+"/"+name.Method, "/")] = true
	}
	return sortedKeys(names)
}
