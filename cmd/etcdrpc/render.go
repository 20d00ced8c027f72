package main

import (
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
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
		Leader   bool              `json:"leader,omitempty"`
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

// view is a snapshot with what is known of leases, to be shown.
type view struct {
	*store.Snapshot
	leases map[int64]survey.LeaseTime
	full   func(key string) string // a key as etcd has it

	filters []filter // what the entries that are shown must pass
	sort    string   // what they are ordered by; "": as they are
}

// json returns the services that have rows, in the order of these.
func (v *view) json() []serviceJSON {
	all := []serviceJSON{}
	at := make(map[string]int)
	for _, r := range v.rows() {
		n, ok := at[r.service.Key]
		if !ok {
			n = len(all)
			at[r.service.Key] = n
			all = append(all, serviceJSON{Key: r.service.Key, Live: r.service.Config != nil, Instances: []instanceJSON{}, Malformed: []malformedJSON{}})
		}
		if r.Err != nil {
			all[n].Malformed = append(all[n].Malformed, malformedJSON{v.full(r.Entry.Key), r.Err.Error()})
		} else {
			all[n].Instances = append(all[n].Instances, r.json(v.full(r.Entry.Key)))
		}
	}
	return all
}

func (r *row) json(etcdKey string) instanceJSON {
	out := instanceJSON{
		Instance: r.Instance.Instance, Addr: r.Addr, Version: r.Version, Zone: r.Zone, Weight: r.Weight, Metadata: r.Metadata,
		Layout: layoutOf(r), Drained: r.drained, Leader: r.leads, EtcdKey: etcdKey,
	}
	if r.Entry.Lease != 0 {
		out.Lease = &leaseJSON{survey.LeaseName(r.Entry.Lease), r.lease.Left, r.lease.Granted}
	}
	return out
}
