package survey

import (
	"errors"
	"fmt"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Placement returns which instances are in which lanes, nil if no route of the policy asks for lanes. The policy may be nil.
func (s *Service) Placement(policy *serviceconfig.Etcd) *serviceconfig.Placement {
	if policy == nil || policy.Route == nil {
		return nil
	}
	return serviceconfig.NewLanes(policy.Route).Place(len(s.Instances), func(i int, name string) string {
		return s.Instances[i].Field(name)
	})
}

// CheckLanesLeft refuses a list that, by its last name, leaves no instance of the base, which clients ignore, or none of a
// strict lane, whose calls would fail.
func (s *Service) CheckLanesLeft(policy *serviceconfig.Etcd, drained []string) error {
	placed := s.Placement(policy)
	if placed == nil {
		return nil
	}
	before := drained[:len(drained)-1]
	if s.namesBase(placed, drained) && !s.namesBase(placed, before) {
		return errors.New("it is the last one in no lane that is not drained, and clients ignore a list that leaves them none of these: register another first")
	}
	lanes := serviceconfig.NewLanes(policy.Route)
	for _, lane := range placed.Made {
		in := func(i int) bool { return slices.Contains(placed.Of[i], lane) }
		if lanes.Strict(lane) && s.namesAll(in, drained) && !s.namesAll(in, before) {
			return fmt.Errorf("it is the last one in the lane %q that is not drained, and the calls of the lane would fail, for it is strict: register another first", lane)
		}
	}
	return nil
}

// namesBase reports whether there are instances in no lane, and a list names all of them.
func (s *Service) namesBase(placed *serviceconfig.Placement, drained []string) bool {
	return s.namesAll(func(i int) bool { return placed.Of[i] == nil }, drained)
}

// namesAll reports whether there are instances of a set, and a list names all of them.
func (s *Service) namesAll(in func(i int) bool, drained []string) bool {
	n := 0
	for i := range s.Instances {
		if in(i) {
			if n++; !s.Instances[i].OnList(drained) {
				return false
			}
		}
	}
	return n > 0
}
