// Package survey makes services and instances of what etcd holds, in all layouts, as the clients of this project do, and
// says what it leaves out. It knows nothing but the entries that it is given.
package survey

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// AnyLayout reads all layouts but home-made JSON.
var AnyLayout = endpoint.Reader{LeaseSuffix: true}

// Instance is one entry under a service key.
type Instance struct {
	endpoint.Endpoint                 // of a malformed entry: the instance id alone
	Layout            endpoint.Layout // zero: malformed
	Entry             Entry
	Err               error // why it is malformed
}

// Service is what etcd has of one service key.
type Service struct {
	Key       string
	Instances []Instance // well-formed, sorted by instance, address and etcd key
	Malformed []Instance
	Config    *Entry // the live service config; nil: none
	Led       bool   // somebody stands for its leader
	Within    string // the namespace that all of this was read in, which the key does not say; "": none
	Closed    bool   // its entries may not be read, so they are not known
}

// InUse reports whether the service has an entry, even if no client can read it.
func (s *Service) InUse() bool { return len(s.Instances)+len(s.Malformed) > 0 }

// Uses reports whether an entry of the service is in one of the layouts.
func (s *Service) Uses(layouts ...endpoint.Layout) bool {
	return slices.ContainsFunc(s.Instances, func(i Instance) bool { return slices.Contains(layouts, i.Layout) })
}

// LeaseIDs returns the leases that entries of the services hang on.
func LeaseIDs(services []*Service) []int64 {
	ids := make(map[int64]bool)
	for _, s := range services {
		for _, i := range slices.Concat(s.Instances, s.Malformed) {
			if i.Entry.Lease != 0 {
				ids[i.Entry.Lease] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// All finds the services in whatever a part of etcd holds. A live config without a service is a
// service without instances.
func All(entries []Entry) []*Service {
	groups := make(map[string]*Service)
	group := func(key string) *Service {
		if groups[key] == nil {
			groups[key] = &Service{Key: key}
		}
		return groups[key]
	}
	owner := Owners(entries)
	for _, e := range entries {
		if key, ok := strings.CutPrefix(e.Key, ConfigPrefix); ok {
			group(key).Config = &e
		} else if key, ok := ledBy(e); ok {
			group(key).Led = true
		} else if key := owner(e); key != "" && !IsCandidate(e.Key) {
			group(key).Add(e)
		}
	}
	var services []*Service
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		s := groups[key]
		if len(s.Instances) > 0 || s.Evident() {
			s.sort()
			services = append(services, s)
		}
	}
	return services
}

// Of finds the entries of one service key among the entries of its range, and the live config if that is among them.
func Of(key string, entries []Entry) *Service {
	s := &Service{Key: key}
	for _, e := range entries {
		if e.Key == ConfigPrefix+key {
			s.Config = &e
		} else if !IsCandidate(e.Key) {
			s.Add(e)
		}
	}
	s.sort()
	return s
}

func (s *Service) sort() {
	for _, set := range [][]Instance{s.Instances, s.Malformed} {
		slices.SortFunc(set, func(a, b Instance) int {
			return cmp.Or(CompareNames(a.Instance, b.Instance), CompareNames(a.Addr, b.Addr), cmp.Compare(a.Entry.Key, b.Entry.Key))
		})
	}
}

// Add takes an entry in, and reports whether it is one of the service's.
func (s *Service) Add(e Entry) bool {
	read, layout, ok, err := AnyLayout.Decode(s.Key, e.Key, e.Value, e.Lease)
	if !ok {
		if !s.IsStray(e) {
			return false
		}
		err = errStray(e)
	}
	s.Take(instanceOf(e, read, layout, cmp.Or(e.tooLarge(), err)))
	return true
}

// Take puts an instance among the well-formed or the malformed.
func (s *Service) Take(i Instance) {
	if i.Err == nil {
		s.Instances = append(s.Instances, i)
	} else {
		s.Malformed = append(s.Malformed, i)
	}
}

// instanceOf returns an entry with what was read of it, or why nothing was.
func instanceOf(e Entry, read endpoint.Endpoint, layout endpoint.Layout, err error) Instance {
	if err != nil {
		return Instance{Endpoint: endpoint.Endpoint{Instance: e.Name()}, Entry: e, Err: err}
	}
	return Instance{Endpoint: read, Layout: layout, Entry: e}
}

// ledBy returns the key of the service for whose leadership an entry stands, if it does.
func ledBy(e Entry) (key string, ok bool) {
	key, ok = strings.CutPrefix(e.Key, leaderPrefix)
	if !ok || e.Lease == 0 {
		return "", false
	}
	key, _, ok = strings.Cut(key, "//")
	return key, ok
}

// IsCandidate reports whether a key is a candidate's for the leadership of a service, be it in a namespace that lies below
// what is looked at. What is kept there otherwise has no double slash.
func IsCandidate(key string) bool {
	_, rest, ok := strings.Cut("/"+key, "/"+leaderPrefix)
	return ok && strings.Contains(rest, "//")
}

// LayoutName returns what people call the layout of an instance.
func (s *Service) LayoutName(i Instance) string { return i.Layout.String() }

// errStray returns why no client reads a stray.
func errStray(e Entry) error {
	return fmt.Errorf("the lease id in the key is not that of its lease (%s), so no client reads it", LeaseName(e.Lease))
}

// LeaseName returns a lease as etcdctl spells it.
func LeaseName(id int64) string {
	if id == 0 {
		return "none"
	}
	return strconv.FormatInt(id, 16)
}
