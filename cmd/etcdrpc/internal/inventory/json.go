package inventory

// JSON is the JSON output of an instance.
type JSON struct {
	Instance string            `json:"instance"`
	Addr     string            `json:"addr"`
	Version  string            `json:"version"`
	Zone     string            `json:"zone"`
	Weight   uint32            `json:"weight"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Layout   string            `json:"layout"`
	State    State             `json:"state"`
	Drained  bool              `json:"drained"`
	Leader   bool              `json:"leader,omitempty"`
	EtcdKey  string            `json:"etcdKey"`
	Lease    *LeaseJSON        `json:"lease"` // null: no lease
	Share    *float64          `json:"share,omitempty"`
	Why      string            `json:"why,omitempty"`
}

// LeaseJSON is the lease of an instance.
type LeaseJSON struct {
	ID         string `json:"id"`                   // in hexadecimal, as in etcdctl
	TTL        int64  `json:"ttl,omitempty"`        // time left in seconds; -1: expired; 0: less than a second, or not read
	GrantedTTL int64  `json:"grantedTTL,omitempty"` // seconds; 0: not read
}

// JSON returns the JSON output of an instance whose key lies in namespace.
func (i *Instance) JSON(namespace string) JSON {
	out := JSON{
		Instance: i.Instance, Addr: i.Addr, Version: i.Version, Zone: i.Zone, Weight: i.Weight, Metadata: i.Metadata,
		Layout: i.Layout.String(), State: i.State, Drained: i.Drained, Leader: i.Leads, EtcdKey: namespace + i.Entry.Key,
	}
	if i.Entry.Lease != 0 {
		out.Lease = &LeaseJSON{ID: LeaseName(i.Entry.Lease)}
	}
	if i.Lease != nil {
		out.Lease.TTL, out.Lease.GrantedTTL = i.Lease.Left, i.Lease.Granted
	}
	if i.Share != nil {
		out.Share, out.Why = &i.Share.Percent, i.Share.Why
	}
	return out
}
