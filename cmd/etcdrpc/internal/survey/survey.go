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
	Service           string          // the key
	Layout            endpoint.Layout // zero: malformed
	Entry             Entry
	Err               error // why it is malformed

	State   State
	Drained bool       // by the live config, be it leaving or not
	Leads   bool       // it is the service's leader
	Lease   *LeaseTime // nil: it has none, or nobody asked
	Share   *Share     // nil: nobody asked
}

// Share is an instance's part of the calls.
type Share struct {
	Percent float64
	Why     string
}

// Service is what etcd has of one service key.
type Service struct {
	Key       string
	Instances []Instance // well-formed, sorted by instance, address and etcd key
	Malformed []Instance
	Config    *Entry      // the live service config; nil: none
	Standing  []Candidate // for its leader, who comes first
	Within    string      // the namespace that all of this was read in, which the key does not say; "": none
}

// InUse reports whether the service has an entry, even if no client can read it.
func (s *Service) InUse() bool { return len(s.Instances)+len(s.Malformed) > 0 }

// Uses reports whether an entry of the service is in one of the layouts.
func (s *Service) Uses(layouts ...endpoint.Layout) bool {
	return slices.ContainsFunc(s.Instances, func(i Instance) bool { return slices.Contains(layouts, i.Layout) })
}

// Entries returns all entries of some services.
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

// LeaseIDs returns the leases that entries hang on.
func LeaseIDs(entries []*Instance) []int64 {
	ids := make(map[int64]bool)
	for _, i := range entries {
		if i.Entry.Lease != 0 {
			ids[i.Entry.Lease] = true
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
		} else if key, c, ok := candidateOf(e); ok {
			group(key).Standing = append(group(key).Standing, c)
		} else if key := owner(e); key != "" && !IsCandidate(e.Key) {
			group(key).Add(e)
		}
	}
	var services []*Service
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		s := groups[key]
		if len(s.Instances) > 0 || s.Evident() {
			s.finish()
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
		} else if of, c, ok := candidateOf(e); ok && of == key {
			s.Standing = append(s.Standing, c)
		} else if !IsCandidate(e.Key) {
			s.Add(e)
		}
	}
	s.finish()
	return s
}

// finish sorts what was found, and says what becomes of each entry.
func (s *Service) finish() {
	slices.SortFunc(s.Standing, Candidate.compare)
	for _, set := range [][]Instance{s.Instances, s.Malformed} {
		slices.SortFunc(set, Instance.compare)
	}
	s.judge()
}

func (i Instance) compare(other Instance) int {
	return cmp.Or(CompareNames(i.Instance, other.Instance), CompareNames(i.Addr, other.Addr), cmp.Compare(i.Entry.Key, other.Entry.Key))
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
	if err = cmp.Or(e.tooLarge(), err); err != nil {
		s.Malformed = append(s.Malformed, Instance{Endpoint: endpoint.Endpoint{Instance: e.Name()}, Service: s.Key, Entry: e, Err: err})
	} else {
		s.Instances = append(s.Instances, Instance{Endpoint: read, Service: s.Key, Layout: layout, Entry: e})
	}
	return true
}

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
