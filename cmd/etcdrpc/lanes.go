package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// livePolicy returns the policy "etcd" of a live config, nil if clients go by none there.
func livePolicy(text []byte) *serviceconfig.Etcd {
	c, err := serviceconfig.ParseLive(string(text))
	if err != nil || len(c.LoadBalancing) == 0 {
		return nil
	}
	policy, _ := c.LoadBalancing[0].Config.(*serviceconfig.Etcd)
	return policy
}

// placement returns which instances are in which lanes, nil if no route of the policy asks for lanes. The policy may be nil.
func (s *service) placement(policy *serviceconfig.Etcd) *serviceconfig.Placement {
	if policy == nil || policy.Route == nil {
		return nil
	}
	return serviceconfig.NewLanes(policy.Route).Place(len(s.instances), func(i int, name string) string {
		return s.instances[i].Field(name)
	})
}

// isDrained reports whether a list of names has an instance.
func (i *instance) isDrained(drained []string) bool {
	return slices.Contains(drained, i.Instance) || slices.Contains(drained, i.Addr)
}

// checkLanesLeft refuses a list that, by its last name, leaves no instance of the base, which clients ignore, or none of a
// strict lane, whose calls would fail.
func (s *service) checkLanesLeft(policy *serviceconfig.Etcd, drained []string) error {
	placed := s.placement(policy)
	if placed == nil {
		return nil
	}
	before := drained[:len(drained)-1]
	if s.baseIsDrained(placed, drained) && !s.baseIsDrained(placed, before) {
		return errors.New("it is the last one in no lane that is not drained, and clients ignore a list that leaves them none of these: register another first")
	}
	lanes := serviceconfig.NewLanes(policy.Route)
	for _, lane := range placed.Made {
		in := func(i int) bool { return slices.Contains(placed.Of[i], lane) }
		if lanes.Strict(lane) && s.allDrained(in, drained) && !s.allDrained(in, before) {
			return fmt.Errorf("it is the last one in the lane %q that is not drained, and the calls of the lane would fail, for it is strict: register another first", lane)
		}
	}
	return nil
}

// baseIsDrained reports whether there are instances in no lane, and all of them are drained.
func (s *service) baseIsDrained(placed *serviceconfig.Placement, drained []string) bool {
	return s.allDrained(func(i int) bool { return placed.Of[i] == nil }, drained)
}

// allDrained reports whether there are instances of a set, and all of them are drained.
func (s *service) allDrained(in func(i int) bool, drained []string) bool {
	n := 0
	for i := range s.instances {
		if in(i) {
			if n++; !s.instances[i].isDrained(drained) {
				return false
			}
		}
	}
	return n > 0
}

// checkLanes finds what is wrong with the lanes of a live policy.
func (p *patient) checkLanes(s *service) (all []finding) {
	policy := livePolicy(s.config.value)
	s = s.merged()
	placed := s.placement(policy)
	if placed == nil || len(s.instances) == 0 {
		return nil
	}
	found := func(problem, fix string) {
		all = append(all, finding{kindLane, []string{p.full(s.config.key)}, problem, fix})
	}
	for _, problem := range placed.Problems {
		found(problem, fmt.Sprintf("compare the live policy with what the instances say of themselves: etcdrpc policy get %[1]s; etcdrpc ls %[1]s -o json", p.word(s.key)))
	}
	switch {
	case len(placed.Of) == len(s.instances):
		found("every instance is in a lane, so the calls without a lane go to all of them", "register instances in no lane, or see that the routes match fewer")
	case s.baseIsDrained(placed, policy.Drain) && s.checkLeft(policy.Drain) == nil:
		found("the live policy drains every instance that is in no lane, so clients ignore that for these",
			fmt.Sprintf("etcdrpc undrain %s INSTANCE for those that are to be called", p.word(s.key)))
	}
	return all
}
