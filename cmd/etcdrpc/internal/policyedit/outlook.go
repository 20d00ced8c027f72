package policyedit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// ErrNoRoutes refuses an edit by which calls without a lane would reach instances in lanes.
var ErrNoRoutes = errors.New("the new live policy has no routes")

// checkOutcome notes where calls will go. It refuses an edit by which calls would newly fail, or newly enter lanes.
func (e *Edit) checkOutcome() error {
	if e.Kind == Undrain || !e.newConfig.Balances() {
		return nil
	}
	clients, oldPolicy, newPolicy := e.Service.Merged(), e.oldConfig.Policy(), e.newConfig.Policy()
	routed := !e.oldConfig.Balances() || oldPolicy.Route != nil // without a live policy, the proto file may have routes
	if names := laneNames(clients); routed && newPolicy.Route == nil && len(names) > 0 && !e.NoRoutes {
		err := fmt.Errorf("%w: calls without a lane would reach instances in lanes (%s): if that is intended, give --no-routes", ErrNoRoutes, output.SomeOf(names))
		if e.Kind == Put {
			return err
		}
		return fmt.Errorf("%w; if the proto file has routes, first write a policy with them: %s", err, e.Service.Guarded("policy set", "FILE"))
	}
	before, after := clients.Plan(&oldPolicy, ""), clients.Plan(&newPolicy, "")
	called := func(i *inventory.Instance) bool {
		return slices.Contains(e.addrs, i.Addr) && !after.Drain.Drained[&i.Endpoint]
	}
	if problem := after.Drain.Problem; problem != "" && (problem != before.Drain.Problem || slices.ContainsFunc(after.Endpoints, called)) {
		return fmt.Errorf("clients would ignore the drain: the list to %s: register another instance first", problem)
	}
	if !e.Changes() || len(clients.Instances) == 0 {
		return nil
	}
	emptied := append(newReports(before, after, "drain leaves no"), emptiedLanes(before, after)...)
	if e.Kind == Drain {
		emptied = append(newReports(before, after, "the group "), emptied...)
	}
	if len(emptied) > 0 && !e.Force {
		err := fmt.Errorf("no instance would be left: %s: register another instance first", strings.Join(emptied, "; "))
		if e.Kind == Drain {
			return fmt.Errorf("%w, or give --force", err)
		}
		return err
	}
	x, err := Explain(e.withNewConfig(), Caller{})
	if err != nil {
		return nil //nolint:nilerror // clients would refuse the config
	}
	calls := 0
	for n := range x.Instances {
		if x.Instances[n].Share.Percent > 0 {
			calls++
		}
	}
	if !e.perhapsUnread() {
		e.note("%d of %d instances get calls then.", calls, len(clients.Instances))
	}
	e.Notes = append(e.Notes, x.Notes[:x.generalFrom]...)
	return nil
}

// emptiedLanes describes the strict lanes whose calls do not fail before the edit, and fail after it.
func emptiedLanes(before, after *inventory.Plan) (all []string) {
	var names []string
	for _, p := range []*inventory.Plan{before, after} {
		if names = append(names, p.Config.NamedLanes()...); p.Placed != nil {
			names = append(names, p.Placed.Made...)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if fails(after, name) && !fails(before, name) {
			all = append(all, fmt.Sprintf("the lane %q is strict", name))
		}
	}
	return all
}

// fails reports whether calls of a lane fail.
func fails(p *inventory.Plan, lane string) bool { return p.HasLanes() && p.Lane(lane) == nil }

// newReports returns the reports that begin with prefix and that clients make only after the edit.
func newReports(before, after *inventory.Plan, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(after.Reports), func(report string) bool {
		return !strings.HasPrefix(report, prefix) || slices.Contains(before.Reports, report)
	})
}

// laneNames returns the ids of the instances in lanes.
func laneNames(s *inventory.Service) (names []string) {
	for _, i := range inventory.WithLane(s.Instances) {
		names = append(names, fmt.Sprintf("%.80s", i.Instance))
	}
	return names
}

// withNewConfig returns the service with the new config.
func (e *Edit) withNewConfig() *inventory.Service {
	service := *e.Service
	service.Config = &inventory.Entry{Value: []byte(e.New)}
	return &service
}

// addLeader sets the leader of the service, and notes that the leader gets the calls for the leader.
func (x *Explanation) addLeader(all []inventory.Candidate) {
	if len(all) > 0 {
		x.Leader = all[0].Instance
		x.note("%s leads %s: it gets the calls for the leader, independent of the shares.", x.Leader, x.Key)
	}
}

// addLeader notes what the leader will do if the edit drains it.
func (e *Edit) addLeader(all []inventory.Candidate) {
	drain, find := inventory.ListOf(e.newConfig.Policy().Drain), e.Service.Finder()
	stays := func(c inventory.Candidate) bool {
		i, err := find(c.Instance)
		return !drain[c.Instance] && (err != nil || !drain.Has(i))
	}
	switch {
	case len(all) == 0 || stays(all[0]):
	case slices.ContainsFunc(all, stays):
		e.note("%s leads %s. If its server may read the live policy, it resigns, and the next leader gets the calls for the leader.", all[0].Instance, e.Key)
	default:
		e.note("%s leads %s. It keeps leading, and gets the calls for the leader, until there is a candidate that is not drained.", all[0].Instance, e.Key)
	}
}
