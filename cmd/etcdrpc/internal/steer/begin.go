package steer

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Beginning says how a live policy is made where none says how to balance yet.
type Beginning struct {
	Child      string // what it balances by, as [liveconfig.ChildPolicy] reads it; "": the default
	PreferZone bool
	NoRoutes   bool // it may lack routes, though instances say their lanes

	Force bool // nothing may be left to call in a group or a lane, and the key may lie in a namespace
}

// policy returns the policy "etcd" of a config, which it begins where there is none. It refuses to begin one without routes
// for clients whose proto file seems to have some.
func (b *Beginning) policy(clients *survey.Service, c *liveconfig.Config) (*serviceconfig.Etcd, error) {
	if !c.Balances() && !b.NoRoutes {
		if err := checkNoLanes(clients); err != nil {
			return nil, err
		}
	}
	child, err := liveconfig.ChildPolicy(cmp.Or(b.Child, liveconfig.DefaultPolicy))
	if err != nil {
		return nil, err
	}
	return c.Begin(child)
}

// ErrStands is that a live policy says how to balance already, and not as one was to be begun.
var ErrStands = errors.New("a live policy says how to balance already, and what else it says is kept")

// checkStands returns ErrStands for a policy that is not as one that would be begun.
func (b *Beginning) checkStands(policy *serviceconfig.Etcd) error {
	child, err := liveconfig.ChildPolicy(cmp.Or(b.Child, liveconfig.DefaultPolicy))
	switch {
	case err != nil:
		return err
	case b.Child != "" && !reflect.DeepEqual(policy.ChildPolicy, child):
		return fmt.Errorf("%w: it balances by %s", ErrStands, policyNames(policy.ChildPolicy))
	case b.PreferZone && !policy.PreferZone:
		return fmt.Errorf("%w: it prefers no zone", ErrStands)
	case b.NoRoutes && policy.Route != nil:
		return fmt.Errorf("%w: it has routes", ErrStands)
	}
	return nil
}

// policyNames lists policies.
func policyNames(policies []serviceconfig.Policy) string {
	names := make([]string, len(policies))
	for n, p := range policies {
		names[n] = p.Name
	}
	return strings.Join(names, ", ")
}

// Split divides the calls among groups.
func (b *Beginning) Split(s *survey.Service, c *liveconfig.Config, splits []serviceconfig.Split) error {
	policy, err := b.policy(s.Merged(), c)
	if err == nil {
		policy.Split = splits
	}
	return err
}

// Warnings say that no client reads the policy, what it drains no longer and, where a live policy comes to say how to balance
// and none did, what is lost, for clients go no more by what the proto file says of that. They come before all else that is said of the edit.
func (e *Edit) Warnings() (all []string) {
	if !e.Changes() {
		return nil
	}
	if err := CheckPlace(e.Service); err != nil && e.New != "" {
		all = append(all, fmt.Sprintf("No client reads the live policy of %s: %s.", e.Service.Key, err))
	}
	if old, err := liveconfig.Parse(e.OldText()); err == nil && old.Balances() {
		if _, removed := e.Listed(); len(removed) > 0 && !e.Revives { // maybe by somebody else, meanwhile
			all = append(all, "It drains no longer: "+output.SomeOf(removed))
		}
		return all
	}
	config, err := liveconfig.Parse(e.New)
	if err != nil || !config.Balances() {
		return all
	}
	policy, picks := config.Etcd(), config.LoadBalancing
	if policy != nil {
		picks = policy.ChildPolicy
	}
	all = append(all, fmt.Sprintf("No live policy said how to balance, and this one takes the place of all that the proto file says of that, which etcd does not hold. "+
		"What it leaves out no longer holds: the policy itself, routes (lanes), and every other option of load_balancing. It balances by %s. "+
		"Back to the proto file: etcdrpc policy rm %s",
		policyNames(picks), output.Shell(e.Service.Key)))
	if policy == nil || policy.Route == nil {
		if names := laned(e.Service.Merged()); len(names) > 0 {
			all = append(all, fmt.Sprintf("It has no routes, so calls without a lane reach those that say they are in one, too: %s", output.SomeOf(names)))
		}
	}
	return all
}

// CheckCalls notes what calls will do, and refuses what would have calls go where they must not, or fail, and did not before: a live policy without routes,
// where there may have been some and instances say their lanes, unless noRoutes; a drain that clients would not follow; and
// one that leaves no instance of a strict lane.
func (e *Edit) CheckCalls(noRoutes bool) error {
	then, err := liveconfig.Parse(e.New)
	if err != nil || !e.Changes() {
		return nil // Apply says so
	}
	clients, policy, old := e.Service.Merged(), cmp.Or(then.Etcd(), new(serviceconfig.Etcd)), new(serviceconfig.Etcd)
	routed := true // as far as is known, by the proto file
	if now, err := liveconfig.Parse(e.OldText()); err == nil && now.Balances() {
		old = cmp.Or(now.Etcd(), old)
		routed = old.Route != nil
	}
	if then.Balances() && routed && policy.Route == nil && !noRoutes {
		if err := checkNoLanes(clients); err != nil {
			return err
		}
	}
	if err := checkFollowed(clients, old, policy); err != nil {
		return err
	}
	if !then.Balances() {
		return nil
	}
	added, _ := e.Listed()
	notes, _, lanes := outlook(e.Service, e.New, added)
	if len(clients.Instances) > 0 {
		e.Notes = append(e.Notes, notes...)
	}
	return leavesNone(lanes)
}

// laned returns the instances that say which lane they are in.
func laned(s *survey.Service) (names []string) {
	for _, i := range survey.Laned(s.Instances) {
		names = append(names, fmt.Sprintf("%.80s", i.Instance))
	}
	return names
}

// ErrNoRoutes is that a live policy would be begun without routes for a service whose proto file seems to have some. It does
// not say how to go on: commands have a flag for it, and pages a box.
var ErrNoRoutes = errors.New("no live policy says how to balance, and one that is begun now has no routes")

// checkNoLanes returns ErrNoRoutes for a service whose instances say their lanes.
func checkNoLanes(s *survey.Service) error {
	names := laned(s)
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%w: calls without a lane would reach those that say they are in one (%s)", ErrNoRoutes, output.SomeOf(names))
}
