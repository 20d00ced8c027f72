package main

import (
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// The JSON of services.
type (
	serviceJSON struct {
		Key       string          `json:"key"`
		Live      bool            `json:"livePolicy"` // there is a live service config
		Instances []instanceJSON  `json:"instances"`
		Malformed []malformedJSON `json:"malformed"`
	}
	instanceJSON struct {
		Instance string            `json:"instance"`
		Addr     string            `json:"addr"`
		Version  string            `json:"version"`
		Zone     string            `json:"zone"`
		Weight   uint32            `json:"weight"`
		Metadata map[string]string `json:"metadata,omitempty"`
		Layout   string            `json:"layout"`
		Drained  bool              `json:"drained"`
		EtcdKey  string            `json:"etcdKey"`
		Lease    *leaseJSON        `json:"lease"` // null: none
	}
	leaseJSON struct {
		ID         string `json:"id"`         // as etcdctl spells it
		TTL        int64  `json:"ttl"`        // seconds left; -1: expired
		GrantedTTL int64  `json:"grantedTTL"` // seconds
	}
	malformedJSON struct {
		EtcdKey string `json:"etcdKey"`
		Error   string `json:"error"`
	}
)

// view is services with what is known of their leases, to be shown.
type view struct {
	services []*survey.Service
	leases   map[int64]survey.LeaseTime
	full     func(key string) string // a key as etcd has it
	note     string                  // what is not known of the services
}

func (v *view) json() []serviceJSON {
	all := make([]serviceJSON, len(v.services))
	for n, s := range v.services {
		drained := s.Drained()
		all[n] = serviceJSON{Key: s.Key, Live: s.Config != nil, Instances: []instanceJSON{}, Malformed: []malformedJSON{}}
		for i := range s.Instances {
			all[n].Instances = append(all[n].Instances, v.instanceJSON(s, &s.Instances[i], drained))
		}
		for _, i := range s.Malformed {
			all[n].Malformed = append(all[n].Malformed, malformedJSON{v.full(i.Entry.Key), i.Err.Error()})
		}
	}
	return all
}

func (v *view) instanceJSON(s *survey.Service, i *survey.Instance, drained map[string]bool) instanceJSON {
	out := instanceJSON{
		Instance: i.Instance, Addr: i.Addr, Version: i.Version, Zone: i.Zone, Weight: i.Weight, Metadata: i.Metadata,
		Layout: s.LayoutName(*i), Drained: drained[i.Addr], EtcdKey: v.full(i.Entry.Key),
	}
	if i.Entry.Lease != 0 {
		t := v.leases[i.Entry.Lease]
		out.Lease = &leaseJSON{survey.LeaseName(i.Entry.Lease), t.Left, t.Granted}
	}
	return out
}
