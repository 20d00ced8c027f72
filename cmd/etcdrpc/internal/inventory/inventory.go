// Package inventory decodes etcd entries of all layouts into services and
// instances, as the clients of this project do. It does no I/O, and keeps the
// entries that no client can decode.
package inventory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// AnyLayout reads all layouts except custom JSON.
var AnyLayout = endpoint.Reader{LeaseSuffix: true}

// Instance is one entry under a service key.
type Instance struct {
	endpoint.Endpoint                 // if malformed, only the instance id is set
	Service           string          // key of the service
	Layout            endpoint.Layout // zero if malformed
	Entry             Entry
	Err               error // why the entry is malformed; nil if it is well-formed

	State State

	// the entry of the live config that drains the instance, even if State is
	// Leaving; nil for none
	Drain *serviceconfig.Drained

	Leads bool // the instance is the leader of the service

	// nil if the entry has no lease or the lease was not read
	Lease *LeaseTime

	Share *Share // nil if not computed
}

// Share is the share of the calls that an instance gets.
type Share struct {
	Percent float64
	Why     string
}

// Service is the entries, live config and candidates of one service key.
type Service struct {
	Key       string
	Instances []Instance // well-formed, sorted by instance, address and etcd key
	Malformed []Instance

	// live service config; nil if there is none, or Denied is not nil
	Config *Entry

	Denied     error       // why the live config could not be read; nil if it was read
	Candidates []Candidate // the candidates for the leadership, sorted; the first leads

	output.Commands // for the etcd that was read; Namespace is not part of Key
}

// InUse reports whether the service has an entry, readable or not.
func (s *Service) InUse() bool {
	return len(s.Instances)+len(s.Malformed) > 0
}

// IfRead returns a statement on the live config of a service, or nil if the
// live config could not be read.
func IfRead[T any](s *Service, statement T) *T {
	if s.Denied != nil {
		return nil
	}

	return &statement
}

// Entries returns all entries of the services.
func Entries(services []*Service) (all []*Instance) {
	for _, s := range services {
		for _, set := range [][]Instance{s.Instances, s.Malformed} {
			for n := range set {
				all = append(all, &set[n])
			}
		}
	}

	return all
}

// Count counts instances by a field or a piece of metadata, without those that
// lack it.
func Count(all []*Instance, field string) map[string]int {
	counts := make(map[string]int)
	for _, i := range all {
		if value := i.Field(field); value != "" {
			counts[value]++
		}
	}

	return counts
}

// Counted returns counts as text, sorted by name: "1 v1, 2 v2".
func Counted(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), CompareNames)
	for n, name := range names {
		names[n] = fmt.Sprintf("%d %s", counts[name], name)
	}

	return strings.Join(names, ", ")
}

// LeaseIDs returns the ids of the leases of the entries, sorted and without
// duplicates.
func LeaseIDs(entries []*Instance) []int64 {
	ids := make(map[int64]bool)
	for _, i := range entries {
		if i.Entry.Lease != 0 {
			ids[i.Entry.Lease] = true
		}
	}

	return slices.Sorted(maps.Keys(ids))
}

// All returns the services among entries, which may contain other programs'
// keys. A live config without entries makes a service without instances.
func All(entries []Entry) []*Service {
	groups := make(map[string]*Service)
	group := func(key string) *Service {
		if groups[key] == nil {
			groups[key] = &Service{Key: key}
		}

		return groups[key]
	}

	for _, e := range entries {
		if key, ok := strings.CutPrefix(e.Key, ConfigPrefix); ok {
			group(key).Config = &e
		} else if strings.HasPrefix(e.Key, "/"+ConfigPrefix) { // no client reads it
			group(e.Key).Config = &e
		} else if key, c, ok := candidateOf(e); ok {
			group(key).Candidates = append(group(key).Candidates, c)
		} else if key := OwnerOf(e); key != "" && !IsCandidate(e.Key) {
			group(key).Add(e)
		}
	}

	var services []*Service
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		s := groups[key]
		if len(s.Instances) > 0 || s.Evident() {
			s.sortAndSetStates()
			services = append(services, s)
		}
	}

	return services
}

// Of returns the service at key. entries are those of its range, and its live
// config if that was read.
func Of(key string, entries []Entry) *Service {
	s := &Service{Key: key}
	for _, e := range entries {
		if e.Key == ConfigPrefix+key {
			s.Config = &e
		} else if owner, c, ok := candidateOf(e); ok && owner == key {
			s.Candidates = append(s.Candidates, c)
		} else if !IsCandidate(e.Key) {
			s.Add(e)
		}
	}

	s.sortAndSetStates()

	return s
}

func (s *Service) sortAndSetStates() {
	slices.SortFunc(s.Candidates, Candidate.compare)

	for _, set := range [][]Instance{s.Instances, s.Malformed} {
		slices.SortFunc(set, Instance.compare)
	}

	s.setStates()
}

func (i Instance) compare(other Instance) int {
	return cmp.Or(CompareNames(i.Instance, other.Instance),
		CompareNames(i.Addr, other.Addr), cmp.Compare(i.Entry.Key, other.Entry.Key))
}

// Add adds an entry, if it belongs to the service.
func (s *Service) Add(e Entry) {
	read, layout, ok, err := AnyLayout.Decode(s.Key, e.Key, e.Value, e.Lease)
	err = cmp.Or(e.checkSize(), err)
	switch {
	case !ok:
	case err != nil:
		s.Malformed = append(s.Malformed, Instance{
			Endpoint: endpoint.Endpoint{Instance: e.Name()},
			Service:  s.Key,
			Entry:    e,
			Err:      err,
		})

	default:
		s.Instances = append(s.Instances,
			Instance{Endpoint: read, Service: s.Key, Layout: layout, Entry: e})
	}
}

// LeaseName returns a lease id in hexadecimal, as in etcdctl.
func LeaseName(id int64) string {
	if id == 0 {
		return "none"
	}

	return strconv.FormatInt(id, 16)
}

// State is the state of an entry.
type State string

// The states of entries. None of them depends on the lease.
const (
	Registered State = "registered"

	// in the list "drain" of a live config that clients accept
	Drained   State = "drained"
	Leaving   State = "leaving" // the owner is withdrawing the entry
	Malformed State = "malformed"
)

// setStates sets the state of each entry, and which instance leads.
func (s *Service) setStates() {
	clients := s.Merged()
	called := clients.ByAddr()
	drained := make(map[string]*serviceconfig.Drained)

	if policy := s.Policy(); policy != nil && len(policy.Drain) > 0 {
		named := make(map[string]*serviceconfig.Drained)
		for n, d := range policy.Drain {
			named[d.Instance] = &policy.Drain[n]
		}

		for e := range clients.Plan(policy, "").Drain.Drained {
			// The drain applies to all entries of the address.
			drained[e.Addr] = cmp.Or(named[e.Instance], named[e.Addr])
		}
	}

	for n := range s.Malformed {
		s.Malformed[n].State = Malformed
	}

	for n := range s.Instances {
		i := &s.Instances[n]
		i.Leads = len(s.Candidates) > 0 && s.Candidates[0].Instance == i.Instance
		i.Drain = drained[i.Addr]

		switch {
		case i.Leaving() || called[i.Addr] == nil:
			i.State = Leaving
		case i.Drain != nil:
			i.State = Drained
		default:
			i.State = Registered
		}
	}
}

// LeaseTime is the remaining time of a lease and its granted TTL, in seconds.
type LeaseTime struct {
	// -1 if expired; 0 if less than a second or not read
	Remaining int64 `json:"ttl,omitempty"`
	Granted   int64 `json:"grantedTTL,omitempty"` // 0 if not read
}

// Expired reports whether the lease has expired or was revoked.
func (t LeaseTime) Expired() bool {
	return t.Remaining < 0
}

// RunsOut reports whether a lease missed two renewals: etcd's clients renew
// after a third of the TTL.
func (t LeaseTime) RunsOut() bool {
	return t.Remaining*3 <= t.Granted
}

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

	// null if the live config could not be read
	Drained *bool `json:"drained"`

	DrainedUntil string     `json:"drainedUntil,omitempty"`
	DrainedBy    string     `json:"drainedBy,omitempty"`
	DrainedAt    string     `json:"drainedAt,omitempty"`
	Leader       bool       `json:"leader,omitempty"`
	EtcdKey      string     `json:"etcdKey"`
	Lease        *LeaseJSON `json:"lease"` // null without a lease
	Share        *float64   `json:"share,omitempty"`
	Why          string     `json:"why,omitempty"`
}

// LeaseJSON is the lease of an instance.
type LeaseJSON struct {
	ID string `json:"id"` // in hexadecimal, as in etcdctl
	LeaseTime
}

// JSON returns the JSON output of an instance of the service.
func (s *Service) JSON(i *Instance) JSON {
	out := JSON{
		Instance: i.Instance,
		Addr:     i.Addr,
		Version:  i.Version,
		Zone:     i.Zone,
		Weight:   i.Weight,
		Metadata: i.Metadata,
		Layout:   i.Layout.String(),
		State:    i.State,
		Drained:  IfRead(s, i.Drain != nil),
		Leader:   i.Leads,
		EtcdKey:  s.Namespace + i.Entry.Key,
	}
	if i.Drain != nil {
		out.DrainedUntil = i.Drain.Until
		out.DrainedBy = i.Drain.By
		out.DrainedAt = i.Drain.At
	}

	if i.Entry.Lease != 0 {
		out.Lease = &LeaseJSON{ID: LeaseName(i.Entry.Lease)}
	}

	if i.Lease != nil {
		out.Lease.LeaseTime = *i.Lease
	}

	if i.Share != nil {
		out.Share = &i.Share.Percent
		out.Why = i.Share.Why
	}

	return out
}
