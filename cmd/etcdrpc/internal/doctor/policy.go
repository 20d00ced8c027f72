package doctor

import (
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// reportPolicy reports a fault of the live policy, at the policy's key and at the keys of some entries.
func (x *subject) reportPolicy(problem, fix string, entries ...string) {
	x.report(problem, fix, append([]string{x.Config.Key}, entries...)...)
}

// setCommand returns the command that replaces the live policy.
func (x *subject) setCommand() string { return x.Guarded("policy set", "FILE") }

// refusedPolicy finds live policies that clients refuse.
func (x *subject) refusedPolicy() {
	if x.refusal != nil {
		x.reportPolicy("clients refuse the live policy: "+x.refusal.Error(),
			fmt.Sprintf("to replace it: %s; to restore the generated one: %s", x.setCommand(), x.Guarded("policy rm")))
	}
}

func (x *subject) leasedPolicy() {
	if x.hasPolicy && x.Config.Lease != 0 {
		x.reportPolicy("the live policy is on a lease, and is deleted when the lease expires",
			fmt.Sprintf("put it without a lease: %s; and with what that shows: %s", x.Command("policy get"), x.setCommand()))
	}
}

// orphanPolicy finds live policies of services without entries.
func (x *subject) orphanPolicy() {
	if x.hasPolicy && !x.InUse() && x.refusal == nil {
		x.reportPolicy(fmt.Sprintf("there is a live policy for %s, but no instance", x.Key),
			"if the key is mistyped or the service gone: "+x.Guarded("policy rm"))
	}
}

// unlinkedPolicy finds policies that not every client links.
func (x *subject) unlinkedPolicy() {
	if x.live == nil {
		return
	}
	if err := liveconfig.Linked(x.live); err != nil {
		x.reportPolicy("clients that do not link its policies refuse the live policy, and keep the last valid one: "+err.Error(),
			fmt.Sprintf("have every client of %s link it, as generated code does if its proto names it, and then --skip %s; or use another: %s", x.Key, x.check.kind, x.setCommand()))
	}
}

// unserved finds services and methods that a live policy configures and no instance serves. If an instance does not declare its
// methods, it may serve all, and unserved finds none.
func (x *subject) unserved() {
	if x.live == nil {
		return
	}
	var named []serviceconfig.MethodName
	for _, method := range x.live.Methods {
		named = append(named, method.Name...)
	}
	if health := x.live.HealthCheck; health != nil {
		named = append(named, serviceconfig.MethodName{Service: health.ServiceName})
	}
	var absent []string
	for _, name := range x.clients.Unserved(named) {
		absent = append(absent, strings.TrimSuffix(name.Service+"/"+name.Method, "/"))
	}
	if len(absent) > 0 {
		x.reportPolicy(fmt.Sprintf("methodConfig or healthCheckConfig of the live policy names what no instance serves: %q", absent),
			"name services and methods in full as the proto does: "+x.setCommand())
	}
}

// misfits finds parts of the live policy that have no effect on these instances, and describes them as clients' logs do. It does
// not report that all of a split's group is drained, which is intended.
func (x *subject) misfits() {
	for _, report := range x.plan.Reports {
		if !strings.Contains(report, "only endpoints that are drained") {
			x.reportPolicy("the live policy does not fit the instances: "+report,
				fmt.Sprintf("compare the instances with the live policy: %s; then correct the instances, undrain, or replace the policy: %s", x.Command("ls -o json"), x.setCommand()))
		}
	}
}

// outsideGroups finds instances in no group of a split.
func (x *subject) outsideGroups() {
	var outside []string
	for _, m := range x.plan.Base.Members {
		if i := x.plan.All[m]; !i.Drained && x.plan.Config.Group(&i.Endpoint) == len(x.plan.Config.Split) {
			outside = append(outside, i.Entry.Key)
		}
	}
	if len(x.plan.Config.Split) > 0 && len(outside) > 0 {
		x.reportPolicy(output.CountedIs(len(outside), "instance", "is", "are")+" in no group of the split, and called only while no group has a ready one",
			"if they should be called, give them a group; if not, give them a group of weight 0: "+x.setCommand(), outside...)
	}
}

// missingZones finds instances without a zone, if the policy prefers the client's zone.
func (x *subject) missingZones() {
	var without []string
	for _, i := range x.clients.Instances {
		if i.Zone == "" {
			without = append(without, i.Entry.Key)
		}
	}
	if x.plan.Config.PrefersZone() && len(without) > 0 {
		x.reportPolicy(fmt.Sprintf("the live policy prefers the client's own zone, and %d of %d instances have none: clients with instances in their own zone do not call these", len(without), len(x.clients.Instances)),
			"set the zone of the servers by runtime.WithZone; or use a live policy without preferZone: "+x.setCommand(), without...)
	}
}

// drainedSince finds instances that registered after the policy that drains them was written, except servers that only
// registered again, as after an outage of etcd.
func (x *subject) drainedSince() {
	var where, names []string
	for _, i := range x.plan.All[x.plan.Live:] {
		started, ok := x.earlier[serviceAddr{x.Key, i.Addr}]
		if i.Entry.CreateRevision > x.Config.ModRevision && (!ok || started != i.Metadata[endpoint.StartedName]) {
			where, names = append(where, i.Entry.Key), append(names, i.Instance)
		}
	}
	if len(names) > 0 {
		x.reportPolicy(fmt.Sprintf("an earlier drain applies to instances registered since, which may be other servers: %q", names),
			"if it should be called: "+x.Command("undrain", names[0]), where...)
	}
}

// missingRoutes finds instances in lanes if the live policy sets load balancing without routes.
func (x *subject) missingRoutes() {
	var inLanes []string
	for _, i := range inventory.WithLane(x.clients.Instances) {
		inLanes = append(inLanes, i.Entry.Key)
	}
	if x.live != nil && liveconfig.Replaces(x.live) && !x.plan.HasLanes() && len(inLanes) > 0 {
		x.add(x.check.kind, Warning, output.CountedIs(len(inLanes), "instance", "has a lane", "have lanes")+", and the live policy has no routes, so calls without a lane also reach them",
			"give the live policy the routes of the proto file (docs/lanes.md): "+x.setCommand(), append([]string{x.Config.Key}, inLanes...)...)
	}
}

// drainedLanes finds strict lanes whose instances are all drained.
func (x *subject) drainedLanes() {
	if !x.plan.HasLanes() {
		return
	}
	for _, lane := range x.plan.Placed.Made {
		if x.plan.Lane(lane) == nil {
			x.reportPolicy(fmt.Sprintf("every instance of the lane %q is drained, and it is strict, so its calls fail", lane),
				"undrain one, or use another live policy: "+x.setCommand())
		}
	}
}
