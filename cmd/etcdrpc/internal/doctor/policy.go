package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// reportConfig adds a finding at the key of the live config, and at the keys of
// some entries.
func (x *subject) reportConfig(problem, fix string, entries ...string) {
	x.report(problem, fix, append([]string{x.Config.Key}, entries...)...)
}

// setCommand returns the command that replaces the live config.
func (x *subject) setCommand() string {
	return x.Guarded("policy set", "FILE")
}

// refusedConfig finds live configs that clients refuse.
func (x *subject) refusedConfig() {
	if x.refusal != nil {
		x.reportConfig("clients refuse the live config: "+x.refusal.Error(),
			fmt.Sprintf("to replace it: %s; to restore the generated one: %s",
				x.setCommand(), x.Guarded("policy rm")))
	}
}

func (x *subject) leasedConfig() {
	if x.hasConfig && x.Config.Lease != 0 {
		x.reportConfig("the live config is on a lease, and is deleted when the lease expires",
			fmt.Sprintf("put it without a lease: %s; and with what that shows: %s",
				x.Command("policy get"), x.setCommand()))
	}
}

// orphanConfig finds live configs of services without entries.
func (x *subject) orphanConfig() {
	if x.hasConfig && !x.InUse() && x.refusal == nil {
		x.reportConfig("there is a live config for "+x.Key+", but no instance",
			"if the key is mistyped or the service gone: "+x.Guarded("policy rm"))
	}
}

// unlinkedPolicy finds live configs with a policy that not every client links.
func (x *subject) unlinkedPolicy() {
	if x.live == nil {
		return
	}

	if err := liveconfig.Linked(x.live); err != nil {
		x.reportConfig("clients that do not link its policies refuse the live config, and keep the last valid one: "+
			err.Error(),
			fmt.Sprintf("have every client of %s link it, as generated code does if its proto names it, and then --skip %s; or use another: %s",
				x.Key, x.check.kind, x.setCommand()))
	}
}

// unserved finds services and methods that a live config names and no instance
// serves. If an instance does not declare its methods, it may serve all, and
// unserved finds none.
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
		x.reportConfig(fmt.Sprintf("methodConfig or healthCheckConfig of the live config names what no instance serves: %q", absent),
			"name services and methods in full as the proto does: "+x.setCommand())
	}
}

// misfits finds live configs that do not fit the instances, and describes the
// effect as clients' logs do. It ignores groups of a split that are drained
// completely: that is intended.
func (x *subject) misfits() {
	parts := slices.DeleteFunc(slices.Clone(x.plan.Reports), func(report string) bool {
		return strings.Contains(report, "only endpoints that are drained")
	})
	var outside, zoneless []string

	config := x.plan.Config
	for _, i := range x.plan.All {
		split := len(config.Split)
		if split > 0 &&
			i.Drain == nil &&
			x.plan.Placed.IsBase(&i.Endpoint) &&
			config.Group(&i.Endpoint) == split {
			outside = append(outside, i.Entry.Key)
		}

		if config.PrefersZone() && i.Zone == "" {
			zoneless = append(zoneless, i.Entry.Key)
		}
	}

	if n := len(outside); n > 0 {
		parts = append(parts, output.CountedIs(n, "instance", "is", "are")+
			" in no group of the split, and called only while no group has a ready one")
	}

	if n := len(zoneless); n > 0 {
		parts = append(parts, output.CountedIs(n, "instance", "has", "have")+
			" no zone (runtime.WithZone): preferZone keeps calls from them while the client's own zone has instances")
	}

	if len(parts) > 0 {
		fix := fmt.Sprintf("compare them: %s; then correct the instances, undrain, or replace the live config: %s",
			x.Command("ls -o json"), x.setCommand())
		x.reportConfig("the live config does not fit the instances: "+strings.Join(parts,
			"; "),
			fix, append(outside, zoneless...)...)
	}
}

// drainedSince finds instances that registered after the live config that
// drains them was written, except servers that only registered again, as after
// an outage of etcd.
func (x *subject) drainedSince() {
	var where, names []string
	for _, i := range x.plan.All[x.plan.Live:] {
		started, ok := x.earlier[serviceAddr{x.Key, i.Addr}]
		if i.Entry.CreateRevision > x.Config.ModRevision &&
			(!ok || started != i.Metadata[endpoint.StartedName]) {
			where = append(where, i.Entry.Key)
			names = append(names, i.Instance)
		}
	}

	if len(names) > 0 {
		x.reportConfig(fmt.Sprintf("an earlier drain applies to instances registered since, which may be other servers: %q", names),
			"if it should be called: "+x.Command("undrain", names[0]), where...)
	}
}

// lanes finds lanes that the live config does not serve.
func (x *subject) lanes() {
	x.missingRoutes()
	x.drainedLanes()
}

// missingRoutes finds instances in lanes if the live config replaces the load
// balancing of the proto file, and has no routes.
func (x *subject) missingRoutes() {
	var inLanes []string
	for _, i := range inventory.WithLane(x.clients.Instances) {
		inLanes = append(inLanes, i.Entry.Key)
	}

	unrouted := x.live != nil && liveconfig.Replaces(x.live) && !x.plan.HasLanes()
	if unrouted && len(inLanes) > 0 {
		problem := output.CountedIs(len(inLanes), "instance", "has a lane",
			"have lanes") +
			", and the live config has no routes, so calls without a lane also reach them"
		x.reportAs(Warning, problem,
			"give the live config the routes of the proto file (docs/lanes.md): "+
				x.setCommand(),
			append([]string{x.Config.Key}, inLanes...)...)
	}
}

// drainedLanes finds strict lanes whose instances are all drained.
func (x *subject) drainedLanes() {
	if !x.plan.HasLanes() {
		return
	}

	for _, lane := range x.plan.Placed.Made {
		if x.plan.Lane(lane) == nil {
			x.reportConfig(fmt.Sprintf("every instance of the lane %q is drained, and it is strict, so its calls fail", lane),
				"undrain one, or use another live config: "+x.setCommand())
		}
	}
}
