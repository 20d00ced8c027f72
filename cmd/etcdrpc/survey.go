package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// anyLayout reads all layouts but home-made JSON.
var anyLayout = endpoint.Reader{LeaseSuffix: true}

// instance is one entry under a service key.
type instance struct {
	endpoint.Endpoint                 // of a malformed entry: the instance id alone
	layout            endpoint.Layout // zero: malformed
	entry             entry
	err               error // why it is malformed
}

// service is what etcd has of one service key.
type service struct {
	key       string
	instances []instance // well-formed, sorted by instance, address and etcd key
	malformed []instance
	homeMade  *inferred // nil: clients read all entries without a json_layout, or none would do
	config    *entry    // the live service config; nil: none
	closed    bool      // its entries may not be read, so they are not known
}

// uses reports whether an entry of the service is in one of the layouts.
func (s *service) uses(layouts ...endpoint.Layout) bool {
	return slices.ContainsFunc(s.instances, func(i instance) bool { return slices.Contains(layouts, i.layout) })
}

// leaseIDs are the leases that entries of the services hang on.
func leaseIDs(services []*service) []int64 {
	ids := make(map[int64]bool)
	for _, s := range services {
		for _, i := range slices.Concat(s.instances, s.malformed) {
			if i.entry.lease != 0 {
				ids[i.entry.lease] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// surveyAll finds the services in whatever a part of etcd holds. A live config without a service is a
// service without instances.
func surveyAll(entries []entry) []*service {
	groups := make(map[string]*service)
	group := func(key string) *service {
		if groups[key] == nil {
			groups[key] = &service{key: key}
		}
		return groups[key]
	}
	for i, e := range entries {
		if key, ok := strings.CutPrefix(e.key, configPrefix); ok {
			group(key).config = &entries[i]
		} else if key := ownerOf(e); key != "" && !isCandidate(e.key) {
			group(key).add(e)
		}
	}
	collectStrays(groups)
	return sorted(groups, func(s *service) bool {
		known := func(i instance) bool { return !s.isMapped(i) }
		return slices.ContainsFunc(s.instances, known) || s.evident()
	})
}

// surveyKey finds the entries of one service key, and the services below it, among the entries of
// its range.
func surveyKey(key string, entries []entry) (s *service, others []*service) {
	s = &service{key: key}
	var rest []entry
	for _, e := range entries {
		if !s.add(e) {
			rest = append(rest, e)
		}
	}
	s.readHomeMade()
	s.sort()
	return s, surveyAll(rest)
}

func sorted(groups map[string]*service, keep func(*service) bool) []*service {
	var services []*service
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		s := groups[key]
		s.readHomeMade()
		if keep(s) {
			s.sort()
			services = append(services, s)
		}
	}
	return services
}

func (s *service) sort() {
	for _, set := range [][]instance{s.instances, s.malformed} {
		slices.SortFunc(set, func(a, b instance) int {
			return cmp.Or(compareNames(a.Instance, b.Instance), compareNames(a.Addr, b.Addr), cmp.Compare(a.entry.key, b.entry.key))
		})
	}
}

// add takes an entry in, or tells that it is none of the service's.
func (s *service) add(e entry) bool {
	decoded, layout, ok, err := anyLayout.Decode(s.key, e.key, e.value, e.lease)
	if !ok {
		if !s.isStray(e) {
			return false
		}
		err = errStray(e)
	}
	i := instance{Endpoint: decoded, layout: layout, entry: e, err: err}
	if err == nil {
		s.instances = append(s.instances, i)
		return true
	}
	i.layout = endpoint.Layout{}
	i.Instance = e.name()
	s.malformed = append(s.malformed, i)
	return true
}

// ownerOf returns the key of the service that an entry belongs to: the part before the lease id, if the
// entry hangs on that lease, or else the part before the last slash.
func ownerOf(e entry) string {
	json := strings.HasPrefix(strings.TrimSpace(string(e.value)), "{")
	if e.lease != 0 && !json {
		stem, ok := strings.CutSuffix(e.key, strconv.FormatInt(e.lease, 10))
		if ok && stem != "" && !strings.HasSuffix(stem, "/") {
			return stem
		}
	}
	return e.key[:max(strings.LastIndexByte(e.key, '/'), 0)]
}

// isCandidate reports whether a key is a candidate's for the leadership of a service, be it in a namespace that lies below
// what is looked at. What is kept there otherwise has no double slash.
func isCandidate(key string) bool {
	if strings.HasPrefix(key, leaderPrefix) {
		return true
	}
	_, rest, ok := strings.Cut(key, "/"+leaderPrefix)
	return ok && strings.Contains(rest, "//")
}

// leaseDigits is the least length of a decimal lease id: etcd's are nearly random numbers of 63 bits.
const leaseDigits = 15

// isStray reports whether an entry looks like one of the service in the lease suffix layout, but on
// another lease than its key says.
func (s *service) isStray(e entry) bool {
	suffix, ok := strings.CutPrefix(e.key, s.key)
	if !ok || len(suffix) < leaseDigits || strings.Trim(suffix, "0123456789") != "" {
		return false
	}
	onLease := e.lease != 0 && strings.HasSuffix(e.key, strconv.FormatInt(e.lease, 10))
	return !onLease && endpoint.CheckAddr(string(e.value), true) == nil
}

// errStray returns why no client reads a stray.
func errStray(e entry) error {
	return fmt.Errorf("the lease id in the key is not that of its lease (%s), so no client reads it", leaseName(e.lease))
}

// collectStrays moves strays to the services in the lease suffix layout that they seem to belong to.
func collectStrays(groups map[string]*service) {
	for _, s := range groups {
		if !s.uses(endpoint.LeaseSuffix) {
			continue
		}
		parent := groups[ownerOf(entry{key: s.key})]
		if parent == nil {
			continue
		}
		parent.instances = slices.DeleteFunc(parent.instances, func(i instance) bool { return s.isStray(i.entry) && s.add(i.entry) })
	}
}

// leaseName is a lease as etcdctl spells it.
func leaseName(id int64) string {
	if id == 0 {
		return "none"
	}
	return strconv.FormatInt(id, 16)
}
