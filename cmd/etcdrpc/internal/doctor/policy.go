package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// refusedPolicy finds a live policy that clients refuse.
func (x *subject) refusedPolicy() {
	if x.refused != nil {
		x.reportPolicy(KindBadPolicy, "clients do not go by the live policy: "+x.refused.Error(),
			fmt.Sprintf("etcdrpc policy set %[1]s FILE puts a good one in its place; etcdrpc policy rm %[1]s goes back to the generated one", x.word(x.Key)))
	}
}

func (x *subject) leasedPolicy() {
	if x.ruled && x.Config.Lease != 0 {
		x.reportPolicy(KindExpiring, "the live policy hangs on a lease, and is in force no more once that has run out",
			"put it without a lease: etcdrpc policy get, and then policy set "+x.word(x.Key)+" FILE")
	}
}

// reportPolicy tells of what is wrong with the live policy, beside some entries.
func (x *subject) reportPolicy(kind Kind, problem, fix string, entries ...string) {
	x.report(kind, problem, fix, append([]string{x.Config.Key}, output.FirstOf(entries)...)...)
}

// setPolicy is the command that puts another live policy in force.
func (x *subject) setPolicy() string { return "etcdrpc policy set " + x.word(x.Key) + " FILE" }

// orphanPolicy finds a live policy for a service that is not there.
func (x *subject) orphanPolicy() {
	if x.ruled && !x.InUse() {
		x.reportPolicy(KindOrphanPolicy, fmt.Sprintf("there is a live policy for %s, but no instance", x.Key),
			"if the key is mistyped or the service gone: etcdrpc policy rm "+x.word(x.Key))
	}
}

// unlinkedPolicy finds a policy that not every client links.
func (x *subject) unlinkedPolicy() {
	config, err := x.Service.Live()
	if !x.ruled || config == nil || err != nil {
		return
	}
	if err := liveconfig.Linked(config); err != nil {
		x.reportPolicy(KindUnlinked,
			"clients refuse the live policy, and keep the last good one, unless their own code links what it names; those say that "+err.Error(),
			fmt.Sprintf("have every client of %s link it, as generated code does whose proto names it, and then --skip %s; or %s with another", x.word(x.Key), KindUnlinked, x.setPolicy()))
	}
}

// ignoredDrain finds a drain that clients do not follow.
func (x *subject) ignoredDrain() {
	if ignored := x.plan.Drain.Ignored; ignored != 0 && ignored != plan.DrainNamesBase {
		x.reportIgnored(KindBadPolicy)
	}
}

// ignoredDrainOfBase finds a drain that clients do not follow for the instances in no lane.
func (x *subject) ignoredDrainOfBase() {
	if x.plan.Drain.Ignored == plan.DrainNamesBase {
		x.reportIgnored(KindLane)
	}
}

func (x *subject) reportIgnored(kind Kind) {
	x.reportPolicy(kind, "clients do not follow the live policy, whose list to "+x.plan.Drain.Problem(),
		fmt.Sprintf("etcdrpc undrain %s INSTANCE for those that are to be called", x.word(x.Key)))
}

// unknownDrain finds a drain of nothing, or by a name that clients do not know.
func (x *subject) unknownDrain() {
	var absent []string
	list, byAddr, named := survey.ListOf(x.policy.Drain), x.clients.ByAddr(), make(map[string]int)
	for n, i := range slices.Backward(x.Instances) { // the first of a name counts
		named[i.Instance], named[i.Addr] = n, n
	}
	for _, name := range x.policy.Drain {
		at, known := named[name]
		if !known {
			absent = append(absent, name)
		} else if called := byAddr[x.Instances[at].Addr]; called != nil && !list.Has(called) {
			x.reportPolicy(KindNoMatch, fmt.Sprintf("the live policy drains %q, but clients know %s as %q by another entry, and call it", name, called.Addr, called.Instance),
				fmt.Sprintf("etcdrpc drain %[1]s %[2]s drains it by its address; if it is to be called: etcdrpc undrain %[1]s %[3]s", x.word(x.Key), output.Shell(called.Addr), output.Shell(name)),
				x.Instances[at].Entry.Key, called.Entry.Key)
		}
	}
	if len(absent) > 0 {
		x.reportPolicy(KindNoMatch, "the live policy drains what is not registered, so nothing is drained by it: "+output.Quoted(absent),
			fmt.Sprintf("compare with etcdrpc ls %[1]s; what is gone for good: etcdrpc undrain %[1]s %[2]s", x.word(x.Key), output.Shell(absent[0])))
	}
}

// listed returns the name by which the drain has an instance.
func (x *subject) listed(i *survey.Instance) string {
	if slices.Contains(x.policy.Drain, i.Instance) {
		return i.Instance
	}
	return i.Addr
}

// drainedSince finds the instances that were registered after the list that drains them was written.
func (x *subject) drainedSince() {
	var where, names []string
	for _, i := range x.plan.All[x.plan.Live:] {
		if i.Entry.CreateRevision > x.Config.ModRevision {
			where, names = append(where, i.Entry.Key), append(names, x.listed(i))
		}
	}
	if len(names) > 0 {
		x.reportPolicy(KindDrain, "a drain of before holds for what has registered since, which may be another server: "+output.Quoted(names),
			fmt.Sprintf("if it is to be called: etcdrpc undrain %s %s", x.word(x.Key), output.Shell(names[0])), where...)
	}
}

// unservedHealth finds a healthCheckConfig for a service whose health no instance tells: clients take them all for ill, and
// every call fails.
func (x *subject) unservedHealth() {
	if x.live == nil || x.live.HealthCheck == nil || x.live.HealthCheck.ServiceName == "" {
		return
	}
	name := x.live.HealthCheck.ServiceName
	if unserved, _ := x.Unserved([]serviceconfig.MethodName{{Service: name}}); len(unserved) > 0 {
		x.reportPolicy(KindUnserved, fmt.Sprintf("healthCheckConfig of the live policy names %s, which no instance publishes: unless servers tell its health all the same, every call fails", output.Quoted([]string{name})),
			"name a service whose health the servers tell, or \"\" for that of the server as a whole: "+x.setPolicy())
	}
}

// unservedMethods finds the methods that a live policy configures and no instance serves. Nothing can be said if an instance
// does not say what it serves.
func (x *subject) unservedMethods() {
	if x.live == nil {
		return
	}
	var named []serviceconfig.MethodName
	for _, method := range x.live.Methods {
		for _, name := range method.Name {
			if name.Service != "" && !survey.IsInfrastructure(name.Service) {
				named = append(named, name)
			}
		}
	}
	unserved, example := x.Unserved(named)
	if len(unserved) == 0 {
		return
	}
	var absent []string
	for _, name := range unserved {
		absent = append(absent, strings.TrimSuffix(name.Service+"/"+name.Method, "/"))
	}
	x.reportPolicy(KindUnserved, "methodConfig of the live policy names what no instance serves, so it has no effect there: "+output.Quoted(absent),
		fmt.Sprintf("name services and methods in full as the proto does, such as %.80q: %s", example, x.setPolicy()))
}
