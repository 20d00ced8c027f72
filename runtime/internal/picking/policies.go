package picking

import "github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"

// Of returns the policy of a config, nil if it is not ours.
func Of(policy serviceconfig.Policy) Policy {
	switch c := policy.Config.(type) {
	case *serviceconfig.PickFirst:
		return pickFirst{c.ShuffleAddressList}
	case *serviceconfig.LeastRequest:
		return newLeastRequest(c)
	case *serviceconfig.RingHash:
		return newRingHash(c)
	}
	switch policy.Name {
	case serviceconfig.RoundRobinName:
		return roundRobin{}
	case serviceconfig.WeightedName:
		return weighted{}
	case serviceconfig.PeakEwmaName:
		return peakEwma{}
	}
	return nil
}
