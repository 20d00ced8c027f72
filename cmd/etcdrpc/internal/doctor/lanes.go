package doctor

import (
	"fmt"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// checkLanes finds what is wrong with the lanes of a live policy.
func (p *patient) checkLanes(s *survey.Service) (all []Finding) {
	policy := s.Policy()
	s = s.Merged()
	placed := s.Placement(policy)
	if placed == nil || len(s.Instances) == 0 {
		return nil
	}
	found := func(problem, fix string) {
		all = append(all, Finding{KindLane, []string{p.full(s.Config.Key)}, problem, fix})
	}
	for _, problem := range placed.Problems {
		found(problem, fmt.Sprintf("compare the live policy with what the instances say of themselves: etcdrpc policy get %[1]s; etcdrpc ls %[1]s -o json", p.word(s.Key)))
	}
	_, ignored := s.Drain(policy)
	switch {
	case len(placed.Of) == len(s.Instances):
		found("every instance is in a lane, so the calls without a lane go to all of them", "register instances in no lane, or see that the routes match fewer")
	case ignored == serviceconfig.DrainNamesBase:
		found("the live policy drains every instance that is in no lane, so clients ignore that for these",
			fmt.Sprintf("etcdrpc undrain %s INSTANCE for those that are to be called", p.word(s.Key)))
	}
	return all
}
