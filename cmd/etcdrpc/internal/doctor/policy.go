package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// refusedPolicy finds live policies that clients refuse.
func (x *subject) refusedPolicy() {
	if x.refusal != nil {
		x.reportPolicy(KindBadPolicy, "clients refuse the live policy: "+x.refusal.Error(),
			fmt.Sprintf("etcdrpc policy set %[1]s FILE replaces it; etcdrpc policy rm %[1]s restores the generated one", x.keyArg(x.Key)))
	}
}

func (x *subject) leasedPolicy() {
	if x.hasPolicy && x.Config.Lease != 0 {
		x.reportPolicy(KindExpiring, "the live policy is on a lease, and is deleted when the lease expires",
			fmt.Sprintf("put it without a lease: etcdrpc policy get %[1]s, and with what that shows: etcdrpc policy set %[1]s FILE", x.keyArg(x.Key)))
	}
}

// reportPolicy reports a fault of the live policy, at its key and at those of some entries.
func (x *subject) reportPolicy(kind Kind, problem, fix string, entries ...string) {
	x.report(kind, problem, fix, append([]string{x.Config.Key}, output.FirstOf(entries)...)...)
}

// setCommand returns the command that replaces the live policy.
func (x *subject) setCommand() string { return "etcdrpc policy set " + x.keyArg(x.Key) + " FILE" }

// orphanPolicy finds live policies of services without entries.
func (x *subject) orphanPolicy() {
	if x.hasPolicy && !x.InUse() && x.refusal == nil {
		x.reportPolicy(KindOrphanPolicy, fmt.Sprintf("there is a live policy for %s, but no instance", x.Key),
			"if the key is mistyped or the service gone: etcdrpc policy rm "+x.keyArg(x.Key))
	}
}

// unlinkedPolicy finds policies that not every client links.
func (x *subject) unlinkedPolicy() {
	config, err := x.Service.Live()
	if !x.hasPolicy || config == nil || err != nil {
		return
	}
	if err := liveconfig.Linked(config); err != nil {
		x.reportPolicy(KindUnlinked,
			"clients that do not link its policies refuse the live policy, and keep the last valid one: "+err.Error(),
			fmt.Sprintf("have every client of %s link it, as generated code does if its proto names it, and then --skip %s; or use another: %s", x.keyArg(x.Key), KindUnlinked, x.setCommand()))
	}
}

// ignoredDrain finds drains that clients ignore.
func (x *subject) ignoredDrain() {
	if ignored := x.plan.Drain.Ignored; ignored != 0 && ignored != plan.DrainNamesBase {
		x.reportIgnored(KindBadPolicy)
	}
}

// ignoredDrainOfBase finds drains that clients ignore for the instances in no lane.
func (x *subject) ignoredDrainOfBase() {
	if x.plan.Drain.Ignored == plan.DrainNamesBase {
		x.reportIgnored(KindLane)
	}
}

func (x *subject) reportIgnored(kind Kind) {
	x.reportPolicy(kind, "clients ignore the drain of the live policy: the list to "+x.plan.Drain.Problem(),
		fmt.Sprintf("etcdrpc undrain %s INSTANCE for those that should be called", x.keyArg(x.Key)))
}

// unknownDrain finds drains of names that clients do not know.
func (x *subject) unknownDrain() {
	var absent []string
	list, byAddr, named := inventory.ListOf(x.policy.Drain), x.clients.ByAddr(), make(map[string]int)
	for n, i := range slices.Backward(x.Instances) { // backward: the first of a name wins
		named[i.Instance], named[i.Addr] = n, n
	}
	for _, name := range x.policy.Drain {
		at, known := named[name]
		if !known {
			absent = append(absent, name)
		} else if called := byAddr[x.Instances[at].Addr]; called != nil && !list.Has(called) {
			x.reportPolicy(KindNoMatch, fmt.Sprintf("the live policy drains %q, but clients know %s as %q by another entry, and call it", name, called.Addr, called.Instance),
				fmt.Sprintf("etcdrpc drain %[1]s %[2]s drains it by its address; if it should be called: etcdrpc undrain %[1]s %[3]s", x.keyArg(x.Key), output.Shell(called.Addr), output.Shell(name)),
				x.Instances[at].Entry.Key, called.Entry.Key)
		}
	}
	if len(absent) > 0 {
		x.reportPolicy(KindNoMatch, "the live policy drains names that are not registered: "+output.Quoted(absent),
			fmt.Sprintf("compare with etcdrpc ls %[1]s; if it is gone for good: etcdrpc undrain %[1]s %[2]s", x.keyArg(x.Key), output.Shell(absent[0])))
	}
}

// drainName returns the name of an instance in the list "drain".
func (x *subject) drainName(i *inventory.Instance) string {
	if slices.Contains(x.policy.Drain, i.Instance) {
		return i.Instance
	}
	return i.Addr
}

// drainedSince finds instances that registered after the policy that drains them was written.
func (x *subject) drainedSince() {
	var where, names []string
	for _, i := range x.plan.All[x.plan.Live:] {
		if i.Entry.CreateRevision > x.Config.ModRevision {
			where, names = append(where, i.Entry.Key), append(names, x.drainName(i))
		}
	}
	if len(names) > 0 {
		x.reportPolicy(KindDrain, "an earlier drain applies to instances registered since, which may be other servers: "+output.Quoted(names),
			fmt.Sprintf("if it should be called: etcdrpc undrain %s %s", x.keyArg(x.Key), output.Shell(names[0])), where...)
	}
}

// unservedHealth finds a healthCheckConfig for a service that no instance publishes: if its health is unknown, every call
// fails.
func (x *subject) unservedHealth() {
	if x.live == nil || x.live.HealthCheck == nil || x.live.HealthCheck.ServiceName == "" {
		return
	}
	name := x.live.HealthCheck.ServiceName
	if unserved, _ := x.Unserved([]serviceconfig.MethodName{{Service: name}}); len(unserved) > 0 {
		x.reportPolicy(KindUnserved, fmt.Sprintf("healthCheckConfig of the live policy names %s, which no instance publishes: unless servers report its health anyway, every call fails", output.Quoted([]string{name})),
			"name a service whose health the servers report, or \"\" for the whole server: "+x.setCommand())
	}
}

// unservedMethods finds methods that a live policy configures and no instance serves. It finds none if an instance does not
// declare its methods.
func (x *subject) unservedMethods() {
	if x.live == nil {
		return
	}
	var named []serviceconfig.MethodName
	for _, method := range x.live.Methods {
		for _, name := range method.Name {
			if name.Service != "" && !inventory.IsInfrastructure(name.Service) {
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
	x.reportPolicy(KindUnserved, "methodConfig of the live policy names methods that no instance serves, and has no effect for these: "+output.Quoted(absent),
		fmt.Sprintf("name services and methods in full as the proto does, such as %.80q: %s", example, x.setCommand()))
}
