package steer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// What an edit is refused for because of the calls.
var (
	ErrNoRoutes   = errors.New("no live policy says how to balance, and one that is begun now has no routes")
	ErrLeavesNone = errors.New("nothing would be left to call")
)

// foresee notes what calls will do, and refuses an edit by which they go where they must not, or fail, and did not before.
func (e *Edit) foresee() error {
	if e.Kind == Undrain || !e.shall.Balances() {
		return nil
	}
	clients, was, shall := e.Service.Merged(), e.was.Policy(), e.shall.Policy()
	routed := !e.was.Balances() || was.Route != nil // by the proto file, for all that is known
	if names := laned(clients); routed && shall.Route == nil && len(names) > 0 && !e.NoRoutes {
		return fmt.Errorf("%w: calls without a lane would reach those that say they are in one (%s)", ErrNoRoutes, output.SomeOf(names))
	}
	_, before := clients.Drain(&was)
	drained, after := clients.Drain(&shall)
	called := func(addr string) bool { return !drained[addr] }
	if after.Ignored != 0 && (after.Ignored != before.Ignored || slices.ContainsFunc(e.addrs, called)) {
		return fmt.Errorf("clients would not follow that: the list to %s: register another first", after.Problem())
	}
	if !e.Changes() || len(clients.Instances) == 0 {
		return nil
	}
	if bare := e.bare(); len(bare) > 0 && !e.Force {
		return fmt.Errorf("%w in %s: register another first", ErrLeavesNone, strings.Join(bare, " and in "))
	}
	x, err := Explain(e.then(), Caller{})
	if err != nil {
		return nil //nolint:nilerror // clients would not go by it
	}
	e.note("%d of %d instances get calls then.", len(slices.DeleteFunc(slices.Clone(x.Instances), func(i Explained) bool { return i.Share == 0 })), len(clients.Instances))
	e.Notes = append(e.Notes, x.Notes[:x.general]...)
	return nil
}

// bare returns the groups of a split and the strict lanes that have no instance left, and had one before.
func (e *Edit) bare() (all []string) {
	emptied := func(from Caller) (after, before *Explanation) {
		after, _ = Explain(e.then(), from)
		before, _ = Explain(e.Service, from)
		return after, before
	}
	if after, before := emptied(Caller{}); after != nil && before != nil && e.Kind == Drain {
		for _, g := range after.Empty {
			if group := after.etcd.Split[g]; group.Weight > 0 && !slices.Contains(before.Empty, g) {
				all = append(all, fmt.Sprintf("split[%d], of weight %d, of the instances with %s", g, group.Weight, strings.TrimSuffix(group.Key(), ";")))
			}
		}
	}
	for _, lane := range e.emptied() {
		all = append(all, fmt.Sprintf("the lane %q, which is strict", lane))
	}
	return all
}

// emptied returns the strict lanes whose calls fail by the new config, and did not by the old one.
func (e *Edit) emptied() []string {
	clients, was, shall := e.Service.Merged(), e.was.Policy(), e.shall.Policy()
	lanes := slices.Concat(lanesOf(clients, &was), lanesOf(clients, &shall))
	before := failing(clients, &was, lanes)
	return slices.DeleteFunc(failing(clients, &shall, lanes), func(lane string) bool { return slices.Contains(before, lane) })
}

// lanesOf returns the lanes that a policy names, and those that instances make by it.
func lanesOf(clients *survey.Service, policy *serviceconfig.Etcd) []string {
	placed := clients.Placement(policy)
	if placed == nil {
		return nil
	}
	return slices.Concat(plan.NewConfig(policy).NamedLanes(), placed.Made)
}

// failing returns those of some lanes that are strict by a policy, and without an instance that may be called.
func failing(clients *survey.Service, policy *serviceconfig.Etcd, of []string) (all []string) {
	placed := clients.Placement(policy)
	if placed == nil {
		return nil
	}
	drained, _ := clients.Drain(policy)
	served := make(map[string]bool)
	for e, lanes := range placed.Of {
		for _, lane := range lanes {
			served[lane] = served[lane] || !drained[e.Addr]
		}
	}
	config := plan.NewConfig(policy)
	for _, lane := range of {
		if !served[lane] && config.Strict(lane) {
			all = append(all, lane)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// laned returns the instances that say which lane they are in.
func laned(s *survey.Service) (names []string) {
	for _, i := range survey.Laned(s.Instances) {
		names = append(names, fmt.Sprintf("%.80s", i.Instance))
	}
	return names
}

// then returns the service with the new config.
func (e *Edit) then() *survey.Service {
	then := *e.Service
	then.Config = &survey.Entry{Value: []byte(e.New)}
	return &then
}

// calls reports whether an instance has calls.
func (x *Explanation) calls() bool {
	return slices.ContainsFunc(x.Instances, func(e Explained) bool { return e.Share > 0 })
}
