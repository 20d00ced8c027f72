package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// format is how a command writes what it has to say. It is a pflag.Value.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
)

var formats = []string{string(formatTable), string(formatJSON)}

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

func (f *format) Set(text string) error {
	if !slices.Contains(formats, text) {
		return fmt.Errorf("want %s", strings.Join(formats, " or "))
	}
	*f = format(text)
	return nil
}

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
	services []*service
	leases   map[int64]leaseTime
	full     func(key string) string // a key as etcd has it
}

func (v *view) json() []serviceJSON {
	all := make([]serviceJSON, len(v.services))
	for n, s := range v.services {
		drained := s.drainNames()
		all[n] = serviceJSON{Key: s.key, Live: s.config != nil, Instances: []instanceJSON{}, Malformed: []malformedJSON{}}
		for i := range s.instances {
			all[n].Instances = append(all[n].Instances, v.instanceJSON(s, &s.instances[i], drained))
		}
		for _, i := range s.malformed {
			all[n].Malformed = append(all[n].Malformed, malformedJSON{v.full(i.entry.key), i.err.Error()})
		}
	}
	return all
}

func (v *view) instanceJSON(s *service, i *instance, drained []string) instanceJSON {
	out := instanceJSON{
		Instance: i.Instance, Addr: i.Addr, Version: i.Version, Zone: i.Zone, Weight: i.Weight, Metadata: i.Metadata,
		Layout: s.layoutName(*i), Drained: i.isDrained(drained), EtcdKey: v.full(i.entry.key),
	}
	if i.entry.lease != 0 {
		t := v.leases[i.entry.lease]
		out.Lease = &leaseJSON{leaseName(i.entry.lease), t.left, t.granted}
	}
	return out
}

var instanceHead = []string{"SERVICE", "INSTANCE", "ADDRESS", "VERSION", "ZONE", "WEIGHT", "LAYOUT", "LEASE", "STATE"}

// rows are the services as lines of a table under instanceHead.
func (v *view) rows() [][]string {
	var rows [][]string
	for _, s := range v.services {
		drained := s.drainNames()
		for n := range s.instances {
			i := &s.instances[n]
			state := "registered"
			if i.isDrained(drained) {
				state = "drained"
			}
			weight := ""
			if i.Weight != 0 {
				weight = strconv.FormatUint(uint64(i.Weight), 10)
			}
			rows = append(rows, []string{s.key, i.Instance, i.Addr, i.Version, i.Zone, weight,
				s.layoutName(*i), v.timeLeft(i.entry.lease), state})
		}
		for _, i := range s.malformed {
			rows = append(rows, []string{s.key, i.Instance, "", "", "", "", "", v.timeLeft(i.entry.lease), "malformed: " + i.err.Error()})
		}
	}
	return rows
}

func (v *view) timeLeft(lease int64) string {
	t, known := v.leases[lease]
	switch {
	case lease == 0:
		return "none"
	case !known:
		return ""
	case t.expired():
		return "expired"
	}
	return seconds(t.left) + " of " + seconds(t.granted)
}
