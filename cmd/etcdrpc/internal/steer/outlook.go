package steer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
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
	before, after := clients.Plan(&was, ""), clients.Plan(&shall, "")
	called := func(i *survey.Instance) bool {
		return slices.Contains(e.addrs, i.Addr) && !after.Drain.Drained[&i.Endpoint]
	}
	if after.Drain.Ignored != 0 && (after.Drain.Ignored != before.Drain.Ignored || slices.ContainsFunc(after.Endpoints, called)) {
		return fmt.Errorf("clients would not follow that: the list to %s: register another first", after.Drain.Problem())
	}
	if !e.Changes() || len(clients.Instances) == 0 {
		return nil
	}
	bare := emptied(before, after)
	if e.Kind == Drain {
		bare = append(emptiedGroups(before, after), bare...)
	}
	if len(bare) > 0 && !e.Force {
		return fmt.Errorf("%w in %s: register another first", ErrLeavesNone, strings.Join(bare, " and in "))
	}
	x, err := Explain(e.then(), Caller{})
	if err != nil {
		return nil //nolint:nilerror // clients would not go by it
	}
	calls := 0
	for n := range x.Instances {
		if x.Instances[n].Share.Percent > 0 {
			calls++
		}
	}
	e.note("%d of %d instances get calls then.", calls, len(clients.Instances))
	e.Notes = append(e.Notes, x.Notes[:x.general]...)
	return nil
}

// emptied returns the strict lanes that have no instance to call any more.
func emptied(before, after *survey.Plan) (all []string) {
	var names []string
	for _, p := range []*survey.Plan{before, after} {
		if names = append(names, p.Config.NamedLanes()...); p.Placed != nil {
			names = append(names, p.Placed.Made...)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if fails(after, name) && !fails(before, name) {
			all = append(all, fmt.Sprintf("the lane %q, which is strict", name))
		}
	}
	return all
}

// fails reports whether the calls of a lane fail.
func fails(p *survey.Plan, lane string) bool { return p.HasLanes() && p.Lane(lane) == nil }

// emptiedGroups returns the groups of the split that have calls, and had an instance for those without a lane.
func emptiedGroups(before, after *survey.Plan) (all []string) {
	had, has := filled(before), filled(after)
	for n, g := range after.Config.Split {
		if g.Weight > 0 && had[g.Key()] && !has[g.Key()] {
			all = append(all, fmt.Sprintf("split[%d], of weight %d, of the instances with %s", n, g.Weight, strings.TrimSuffix(g.Key(), ";")))
		}
	}
	return all
}

// filled returns the groups of the split that have an instance for the calls without a lane, by their keys.
func filled(p *survey.Plan) map[string]bool {
	groups := make(map[string]bool)
	for _, m := range p.Base.Members {
		if at := p.Config.Group(&p.All[m].Endpoint); int(m) < p.Live && at < len(p.Config.Split) {
			groups[p.Config.Split[at].Key()] = true
		}
	}
	return groups
}

// laned returns the instances that say which lane they are in.
func laned(s *survey.Service) (names []string) {
	for _, i := range survey.WithLane(s.Instances) {
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
