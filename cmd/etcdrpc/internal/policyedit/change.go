package policyedit

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const refused = "clients refuse the live config, and running ones keep the last valid one: "

// ErrNoPolicy is returned for a service without a live config.
var ErrNoPolicy = errors.New("there is no live config: clients use the generated config")

// buildConfig sets the new config.
func (e *Edit) buildConfig() error {
	switch e.Kind {
	case Put:
		e.New = e.Config
		return nil
	case Remove:
		if e.Service.Config == nil {
			return ErrNoPolicy
		}

		return nil
	}

	_, refusal := e.Service.Live() // clients refuse an empty config, Parse does not
	c, err := liveconfig.Parse(e.OldText())

	err = cmp.Or(refusal, err)
	if err != nil {
		return fmt.Errorf(refused+"%w; fix it with policy set or policy rm", err)
	}

	switch e.Kind {
	case Split:
		err = e.split(c)
	case Drain:
		err = e.drain(c)
	case Undrain:
		err = e.undrain(c)
	default:
		err = fmt.Errorf("unknown kind of edit %.20q", e.Kind)
	}

	e.New = c.String()

	return err
}

func (e *Edit) split(c *liveconfig.Config) error {
	if len(e.Groups) == 0 && len(liveconfig.Policy(c.Config).Split) == 0 {
		return errors.New("calls are not split")
	}

	policy, err := c.EnsureEtcd()
	if err == nil {
		policy.Split = e.Groups
	}

	return err
}

// drain adds instances to the list "drain". If the list has an instance with
// another end time, drain replaces its entry.
func (e *Edit) drain(c *liveconfig.Config) error {
	names, err := e.instances()
	if err != nil {
		return err
	}

	find := e.Service.Finder()
	byAddr := e.Service.Merged().ByAddr()
	list := liveconfig.Policy(c.Config).Drain

	places := make(map[string]int, len(list)+len(names))
	for at, d := range slices.Backward(list) {
		places[d.Instance] = at
	}

	for _, name := range names {
		i, err := find(name)
		if err != nil {
			return err
		}

		e.addrs = append(e.addrs, i.Addr)
		called := cmp.Or(byAddr[i.Addr], i)

		entry := e.Entry
		entry.Instance = i.Instance
		if called.Instance != i.Instance { // clients use another id for the address
			entry.Instance = i.Addr
		}

		at, listed := places[called.Instance]
		if !listed {
			at, listed = places[called.Addr]
		}

		switch {
		case !listed:
			places[entry.Instance] = len(list)
			list = append(list, entry)
		case list[at].Until != entry.Until:
			list[at] = entry
		}
	}

	policy, err := c.EnsureEtcd()
	if err == nil {
		policy.Drain = list
	}

	return err
}

// undrain removes instances from the list "drain".
func (e *Edit) undrain(c *liveconfig.Config) error {
	names, err := e.instances()
	if err != nil {
		return err
	}

	policy := c.Etcd()
	drained := inventory.DrainedNames(policy)
	switch {
	case len(drained) > 0:
	case c.String() == e.OldText():
		return errors.New("no instance is drained: the list is empty")
	default:
		return nil // the edit drops drains that have ended
	}

	find := e.Service.Finder()
	undrained := make(map[string]bool)

	for _, name := range names {
		undrained[name] = true

		found, err := find(name)
		if err != nil {
			if !e.Force && !slices.Contains(drained, name) {
				return fmt.Errorf("instance %q is not registered and not drained; drained are: %s",
					name, strings.Join(drained, ", "))
			}

			continue
		}

		undrained[found.Addr] = true
	}

	for _, i := range e.Service.Instances {
		if undrained[i.Addr] { // clients may know the address by any of these ids
			undrained[i.Instance] = true
		}
	}

	listed := len(policy.Drain)
	policy.Drain = slices.DeleteFunc(slices.Clone(policy.Drain),
		func(d serviceconfig.Drained) bool { return undrained[d.Instance] })

	switch len(policy.Drain) {
	case listed:
		return errors.New("none of these instances is drained; drained are: " +
			strings.Join(drained, ", "))
	case 0:
		policy.Drain = nil
	}

	return nil
}

// Choice selects instances by their fields: those with one of the values of
// each list. An empty list matches every instance.
type Choice struct{ Zones, Versions, Hosts []string }

// Given reports whether there is a choice.
func (c Choice) Given() bool {
	return len(c.Zones)+len(c.Versions)+len(c.Hosts) > 0
}

// instances returns the names of the instances to drain or undrain: those given
// or, without any, the addresses that Choice selects.
func (e *Edit) instances() (names []string, err error) {
	if len(e.Names) > 0 {
		return e.Names, nil
	}

	c := e.Choice
	clients := e.Service.Merged().Instances
	found := make(map[string]bool)

	matches := func(values []string, got string) bool {
		at := slices.Index(values, got)
		if at >= 0 {
			found[got] = got != ""
		}

		return len(values) == 0 || at >= 0 && got != ""
	}
	for _, i := range clients {
		host, _, err := net.SplitHostPort(i.Addr)
		zone := matches(c.Zones, i.Zone)
		version := matches(c.Versions, i.Version)

		onHost := matches(c.Hosts, host) || matches(c.Hosts, "["+host+"]")
		if err == nil && c.Given() && zone && version && onHost {
			names = append(names, i.Addr)
		}
	}

	for _, value := range slices.Concat(c.Zones, c.Versions, c.Hosts) {
		if !found[value] {
			return nil, fmt.Errorf("none of the %s matches %q: compare with: %s",
				output.Counted(len(clients), "instance"), value,
				e.Service.Command("ls"))
		}
	}

	if len(names) == 0 {
		return nil, fmt.Errorf("none of the %s matches: compare with: %s",
			output.Counted(len(clients), "instance"), e.Service.Command("ls"))
	}

	return names, nil
}

// ErrNoRoutes is returned for an edit that would send calls without a lane to
// instances in lanes.
var ErrNoRoutes = errors.New("the new live config has no routes")

// checkOutcome notes where calls will go. It refuses an edit by which calls
// would newly fail, or newly enter lanes.
func (e *Edit) checkOutcome() error {
	clients := e.Service.Merged()
	strict := e.Kind == Drain // for a drain, assume strict lanes: the proto file may have them
	oldPolicy := assumedPolicy(e.oldConfig, clients, strict)
	newPolicy := assumedPolicy(e.newConfig, clients, strict)

	e.noteHealth(clients)

	if e.Kind == Undrain || len(e.newConfig.LoadBalancing) == 0 {
		return nil
	}

	before := clients.Plan(oldPolicy, "")
	after := clients.Plan(newPolicy, "")

	err := cmp.Or(e.checkRoutes(clients, oldPolicy, newPolicy),
		e.checkDrain(before, after))
	if err != nil || !e.Changes() || len(clients.Instances) == 0 {
		return err
	}

	err = e.checkEmptied(before, after)
	if err == nil {
		e.noteCalled(len(clients.Instances), newPolicy)
	}

	return err
}

// noteHealth adds a note if the edit adds a health check of a service that no
// instance publishes.
func (e *Edit) noteHealth(clients *inventory.Service) {
	health := e.newConfig.HealthCheck
	if health == nil || reflect.DeepEqual(health, e.oldConfig.HealthCheck) {
		return
	}

	name := serviceconfig.MethodName{Service: health.ServiceName}
	if len(clients.Unserved([]serviceconfig.MethodName{name})) > 0 {
		e.note("No instance publishes the service %q: every call fails unless their health services know this name.",
			health.ServiceName)
	}
}

// checkRoutes refuses to replace a policy that may have routes by a policy
// without routes, while instances are in lanes.
func (e *Edit) checkRoutes(
	clients *inventory.Service,
	before, after *serviceconfig.Etcd,
) error {
	// the proto file may have routes
	routed := !liveconfig.Replaces(e.oldConfig) || before.Route != nil
	unrouted := liveconfig.Replaces(e.newConfig) && after.Route == nil

	var names []string // the instances in lanes
	for _, i := range inventory.WithLane(clients.Instances) {
		names = append(names, fmt.Sprintf("%.80s", i.Instance))
	}

	if routed && unrouted && names != nil && !e.NoRoutes {
		return fmt.Errorf("%w: calls without a lane would reach instances in lanes (%s): if that is intended, give --no-routes",
			ErrNoRoutes, output.SomeOf(names))
	}

	return nil
}

// checkDrain refuses an edit after which clients ignore the drain.
func (e *Edit) checkDrain(before, after *inventory.Plan) error {
	problem := after.Drain.Problem
	ignored := func(i *inventory.Instance) bool {
		return slices.Contains(e.addrs, i.Addr) && !after.Drain.Drained[&i.Endpoint]
	}

	if problem == "" ||
		problem == before.Drain.Problem &&
			!slices.ContainsFunc(after.Endpoints, ignored) {
		return nil
	}

	return fmt.Errorf(
		"clients would ignore the drain: the list to %s: register another instance first",
		problem)
}

// checkEmptied refuses an edit by which groups or lanes newly become empty,
// unless it is forced.
func (e *Edit) checkEmptied(before, after *inventory.Plan) error {
	emptied := append(newReports(before, after, "drain leaves no"),
		emptiedLanes(before, after)...)
	remedy := "register another instance first"

	if e.Kind == Drain {
		emptied = append(newReports(before, after, "the group "), emptied...)
		remedy += ", or give --force"
	}

	if len(emptied) == 0 || e.Force {
		return nil
	}

	return fmt.Errorf("%s: %s", strings.Join(emptied, "; "), remedy)
}

// noteCalled notes how many instances get calls after the edit, and what
// clients report then.
func (e *Edit) noteCalled(instances int, policy *serviceconfig.Etcd) {
	x, err := Explain(e.withNewConfig(), Caller{})
	if err != nil { // clients would refuse the config
		return
	}

	calls := 0
	for _, i := range x.Instances {
		if i.Share.Percent > 0 {
			calls++
			e.lastResort = e.lastResort || slices.Contains(e.addrs, i.Addr)
		}
	}

	if !e.perhapsUnread() {
		unless := ""
		if e.Kind == Drain &&
			!liveconfig.Replaces(e.newConfig) &&
			policy.MinHealthyPercent == 0 {
			unless = ", unless min_healthy_percent of the proto file forbids the drain"
		}

		e.note("%d of %d instances get calls then%s.", calls, instances, unless)
	}

	e.Notes = append(e.Notes, x.Notes[:x.generalFrom]...)
}

// assumedPolicy returns the policy "etcd" of a config, for plans. The config
// may leave the routes to the proto file, which is not in etcd. Then instances
// are assumed to be in the lanes that their metadata "lane" names, and strict
// says whether these lanes are strict.
func assumedPolicy(
	config *serviceconfig.Config,
	clients *inventory.Service,
	strict bool,
) *serviceconfig.Etcd {
	policy := liveconfig.Policy(config)
	if !liveconfig.Replaces(config) &&
		policy.Route == nil &&
		len(inventory.WithLane(clients.Instances)) > 0 {
		policy.Route = []serviceconfig.Route{{Label: "lane", Strict: strict}}
	}

	return &policy
}

// emptiedLanes describes the strict lanes whose calls do not fail before the
// edit, and fail after it.
func emptiedLanes(before, after *inventory.Plan) (all []string) {
	var names []string
	for _, p := range []*inventory.Plan{before, after} {
		names = append(names, p.Config.NamedLanes()...)
		if p.Placed != nil {
			names = append(names, p.Placed.Made...)
		}
	}

	slices.Sort(names)

	for _, name := range slices.Compact(names) {
		if fails(after, name) && !fails(before, name) {
			all = append(all,
				fmt.Sprintf("no instance of the strict lane %q would be left", name))
		}
	}

	return all
}

// fails reports whether calls of a lane fail.
func fails(p *inventory.Plan, lane string) bool {
	return p.HasLanes() && p.Lane(lane) == nil
}

// newReports returns the reports that begin with prefix and that clients make
// only after the edit.
func newReports(before, after *inventory.Plan, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(after.Reports), func(report string) bool {
		return !strings.HasPrefix(report, prefix) ||
			slices.Contains(before.Reports, report)
	})
}

// withNewConfig returns the service with the new config.
func (e *Edit) withNewConfig() *inventory.Service {
	service := *e.Service
	service.Config = &inventory.Entry{Value: []byte(e.New)}

	return &service
}

// addLeader notes what the leader will do if the edit drains it.
func (e *Edit) addLeader(all []inventory.Candidate) {
	drained := inventory.DrainedNames(e.newConfig.Etcd())
	find := e.Service.Finder()

	stays := func(c inventory.Candidate) bool {
		i, err := find(c.Instance)

		return !slices.ContainsFunc(drained, func(name string) bool {
			return name == c.Instance ||
				err == nil && (name == i.Instance || name == i.Addr)
		})
	}

	switch {
	case len(all) == 0 || stays(all[0]):
	case slices.ContainsFunc(all, stays):
		e.note("%s leads %s. If its server may read the live config, it resigns, and the next leader gets the calls for the leader.",
			all[0].Instance, e.Key)
	default:
		e.note("%s leads %s. It keeps leading, and gets the calls for the leader, until there is a candidate that is not drained.",
			all[0].Instance, e.Key)
	}
}
