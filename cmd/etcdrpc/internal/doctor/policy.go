package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
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
func (p *patient) checkPolicy(s *survey.Service) (all []Finding) {
	if s.Config == nil || endpoint.CheckKey(s.Key) != nil { // no client reads the policy of a bad key, nor does a command take it
		return nil
	}
	key := p.full(s.Config.Key)
	config, err := s.Live()
	if err != nil {
		all = append(all, newFinding(KindBadPolicy, []string{key}, "clients do not go by the live policy: "+err.Error(),
			fmt.Sprintf("etcdrpc policy set %[1]s FILE puts a good one in its place; etcdrpc policy rm %[1]s goes back to the generated one", p.word(s.Key))))
	} else {
		all = append(all, p.checkLinked(s, config)...)
	}
	if s.Config.Lease != 0 {
		all = append(all, newFinding(KindExpiring, []string{key}, "the live policy hangs on a lease, and is in force no more once that has run out",
			"put it without a lease: etcdrpc policy get, and then policy set "+p.word(s.Key)+" FILE"))
	}
	switch {
	case s.Closed:
		return all
	case !s.InUse():
		fix := "if the key is mistyped or the service gone: etcdrpc policy rm " + p.word(s.Key)
		if meant := p.meant(s.Key); meant != nil {
			fix = fmt.Sprintf("the instances are under %s: etcdrpc policy set %s FILE, and etcdrpc policy rm %s", output.Shell(meant.Key), p.word(meant.Key), p.word(s.Key))
		}
		return append(all, newFinding(KindOrphanPolicy, []string{key}, fmt.Sprintf("there is a live policy for %s, but no instance", s.Key), fix))
	case err != nil || len(s.Instances) == 0:
		return all
	}
	if policy := s.Policy(); policy != nil {
		all = append(all, p.checkDrain(s, policy)...)
		all = append(all, p.checkDrainedSince(s, policy)...)
		all = append(all, p.checkSplit(s, policy)...)
		all = append(all, p.checkZones(s, policy)...)
		all = append(all, p.checkWeights(s, policy)...)
	}
	all = append(all, p.checkLanes(s, config)...)
	all = append(all, p.checkMethodConfig(s, config)...)
	all = append(all, p.checkHealthService(s, config)...)
	return append(all, p.checkServed(s, config)...)
}

// checkLinked finds a policy that not every client links.
func (p *patient) checkLinked(s *survey.Service, config *serviceconfig.Config) []Finding {
	err := config.Linked(func(name string) bool { return slices.Contains(linkedPolicies, name) })
	if err == nil {
		return nil
	}
	return []Finding{newFinding(KindUnlinked, []string{p.full(s.Config.Key)},
		"clients refuse the live policy, and keep the last good one, unless their own code links what it names; those say that "+err.Error(),
		fmt.Sprintf("have every client of %[1]s link it, as generated code does whose proto names it, and then --skip %[2]s; "+
			"or etcdrpc policy set %[1]s FILE with another", p.word(s.Key), KindUnlinked))}
}

// checkDrain finds a drain that clients do not follow, of nothing, or by a name that clients do not know.
func (p *patient) checkDrain(s *survey.Service, policy *serviceconfig.Etcd) (all []Finding) {
	key := p.full(s.Config.Key)
	clients := s.Merged()
	if _, followed := clients.Drain(policy); followed.Ignored != 0 {
		kind := KindBadPolicy
		if followed.Ignored == serviceconfig.DrainNamesBase {
			kind = KindLane
		}
		all = append(all, newFinding(kind, []string{key}, "clients do not follow the live policy, whose list to "+followed.Problem(),
			fmt.Sprintf("etcdrpc undrain %s INSTANCE for those that are to be called", p.word(s.Key))))
	}
	var absent []string
	for _, name := range policy.Drain {
		if mayBeNamed(s, name) {
			continue
		}
		at := slices.IndexFunc(s.Instances, func(i survey.Instance) bool { return i.OnList([]string{name}) })
		if at < 0 {
			absent = append(absent, name)
		} else if called := clients.At(s.Instances[at].Addr); called != nil && !called.OnList(policy.Drain) {
			all = append(all, newFinding(KindNoMatch, []string{key, p.full(s.Instances[at].Entry.Key), p.full(called.Entry.Key)},
				fmt.Sprintf("the live policy drains %q, but clients know %s as %q by another entry, and call it", name, called.Addr, called.Instance),
				fmt.Sprintf("etcdrpc drain %[1]s %[2]s drains it by its address; if it is to be called: etcdrpc undrain %[1]s %[3]s", p.word(s.Key), output.Shell(called.Addr), output.Shell(name))))
		}
	}
	if len(absent) == 0 {
		return all
	}
	return append(all, newFinding(KindNoMatch, []string{key}, "the live policy drains what is not registered, so nothing is drained by it: "+output.Quoted(absent),
		fmt.Sprintf("compare with etcdrpc ls %[1]s; what is gone for good: etcdrpc undrain %[1]s %[2]s", p.word(s.Key), output.Shell(absent[0]))))
}

// mayBeNamed reports whether an instance in home-made JSON may have a name: its json_layout may take the id from any field.
func mayBeNamed(s *survey.Service, name string) bool {
	return !survey.IsAddress(name) && slices.ContainsFunc(s.Instances, s.IsMapped)
}

// checkServed finds the methods that a live policy configures and no instance serves. Nothing can be said if an instance
// does not say what it serves.
func (p *patient) checkServed(s *survey.Service, config *serviceconfig.Config) []Finding {
	served, known := s.Served()
	if !known {
		return nil
	}
	var absent []string
	for _, method := range config.Methods {
		for _, name := range method.Name {
			if name.Service != "" && !survey.IsInfrastructure(name.Service) && !served[name] {
				absent = append(absent, strings.TrimSuffix(name.Service+"/"+name.Method, "/"))
			}
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return []Finding{newFinding(KindUnserved, []string{p.full(s.Config.Key)},
		"methodConfig of the live policy names what no instance serves, so it has no effect there: "+output.Quoted(absent),
		fmt.Sprintf("name services and methods in full as the proto does, such as %s: etcdrpc policy set %s FILE", output.Quoted(output.FirstOf(servedNames(served))[:1]), p.word(s.Key)))}
}

// servedNames returns the full names of the methods that are served, sorted.
func servedNames(served map[serviceconfig.MethodName]bool) []string {
	names := make(map[string]bool, len(served))
	for name := range served {
		names[strings.TrimSuffix(name.Service+"/"+name.Method, "/")] = true
	}
	return slices.Sorted(maps.Keys(names))
}
