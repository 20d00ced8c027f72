package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Look is the state of a world at one moment.
type Look struct {
	Entries []etcd.Entry // all keys in etcd, sorted
	Servers []Server
	Writers []string // the addresses of servers that use etcd without the runtime
	Readers []Reader
}

// Server is a running incarnation of a server.
type Server struct {
	ID, Addr string
	Name     string // the instance id; "" if the address is the id
	In       bool   // the server should be in etcd
	Elects   bool   // the server should be a candidate for leader
	Layouts  []string
	Wants    map[string]fixtures.Said // by service: what its entries should hold
	Statuses []runtime.Status
	Leases   []int64 // the leases that the server's process has in etcd
	Leads    bool

	Registrations int // of the process
	Expected      int // how many registrations the process should have
}

// Reader is a process that follows the endpoints of the shop.
type Reader struct {
	Name      string
	Config    string   // its own service config
	Watched   []string // addresses
	WatchErr  error
	Status    runtime.KeyStatus
	EtcdErr   error
	Instances []string
	ListErr   error
}

// Lacks describes the entries of the server for a service that are missing in
// etcd or have wrong content.
func (s Server) Lacks(l Look, key string) string {
	var lacks []string
	for _, layout := range s.Layouts {
		in := s.Wants[key].In(layout)
		says := func(e etcd.Entry) bool {
			read := fixtures.Read(e)

			return e.Lease != fixtures.NoLease &&
				read.Layout == layout &&
				read.Said == in &&
				!read.Leaving
		}

		if !slices.ContainsFunc(l.at(key, s.Addr), says) {
			lacks = append(lacks,
				fmt.Sprintf("no entry of %s in layout %s with %+v", key, layout, in))
		}
	}

	return strings.Join(lacks, "; ")
}

// Remaining describes the entries of a service that have the server's address;
// "" if there are none.
func (s Server) Remaining(l Look, key string) string {
	if entries := l.at(key, s.Addr); len(entries) > 0 {
		return fmt.Sprintf("etcd still has the entries %v", entries)
	}

	return ""
}

// isCandidate reports whether etcd has a candidate of the server.
func (s Server) isCandidate(l Look) bool {
	return slices.ContainsFunc(l.candidates(), func(e etcd.Entry) bool {
		return slices.Contains(s.Leases, e.Lease) && e.Value == cmp.Or(s.Name, s.Addr)
	})
}

// candidates returns the candidates for the shop's leader.
func (l Look) candidates() []etcd.Entry {
	return etcd.Under(l.Entries, fixtures.Candidates)
}

// at returns the entries of a service that have an address.
func (l Look) at(key, addr string) []etcd.Entry {
	return slices.DeleteFunc(l.of(key), func(e etcd.Entry) bool {
		return fixtures.Read(e).Addr != addr
	})
}

// of returns the entries of a service.
func (l Look) of(key string) []etcd.Entry {
	return slices.DeleteFunc(slices.Clone(etcd.Under(l.Entries, key)),
		func(e etcd.Entry) bool { return fixtures.Read(e).Service != key })
}

// Config returns the live config.
func (l Look) Config() (text string, ok bool) {
	i := slices.IndexFunc(l.Entries, func(e etcd.Entry) bool {
		return e.Key == fixtures.ConfigKey
	})
	if i >= 0 {
		return l.Entries[i].Value, true
	}

	return "", false
}

// InForce reports whether a caller may use config as its live config. config is
// in the runtime's own form. While etcd has a bad config, any config is
// allowed, because callers use an earlier one.
func (l Look) InForce(config string) bool {
	live, ok := l.Config()
	if !ok || schedule.BadConfig(live) {
		return ok || config == ""
	}

	parsed, err := serviceconfig.ParseLive(live)

	return err == nil && config == parsed.JSON()
}

// Policy returns the policy in force for a caller with a generated config.
// While etcd has a bad live config, the policy is unknown: the caller uses the
// last good config that it has read.
func (l Look) Policy(generated string) (p fixtures.Policy, known bool) {
	config, live := l.Config()
	if live && schedule.BadConfig(config) {
		return p, false
	}

	p = fixtures.ParsePolicy(config, generated)

	return p, p.Name != ""
}

// mayFailOver reports whether calls may go to another region, as calls of a
// strict lane without instances do.
func (l Look) mayFailOver(generated string) bool {
	p, known := l.Policy(generated)

	return !known || slices.ContainsFunc(p.Routes, func(r fixtures.Route) bool {
		return r.Strict
	})
}

// Waits reports whether calls may wait for a ready instance. While etcd has a
// bad config, the config in force is unknown.
func (l Look) Waits(generated string) bool {
	live, ok := l.Config()
	return fixtures.Waits(live, generated) || ok && schedule.BadConfig(live)
}

// shop calls visit for each entry of the shop that callers use.
func (l Look) shop(visit func(e fixtures.Entry)) {
	for _, e := range l.of(fixtures.ShopKey) {
		if read := fixtures.Read(e); read.Addr != "" && !read.Leaving {
			visit(read)
		}
	}
}

// Registered returns the addresses that etcd has for the shop, sorted.
func (l Look) Registered() []string {
	var addrs []string
	l.shop(func(e fixtures.Entry) { addrs = append(addrs, e.Addr) })
	slices.Sort(addrs)

	return slices.Compact(addrs)
}

// Serving returns the registered addresses with a running server.
func (l Look) Serving() []string {
	return slices.DeleteFunc(l.Registered(), func(addr string) bool {
		return addr == fixtures.NobodyAddr
	})
}

// Named reports whether etcd has an entry of the shop with an instance id and
// an address.
func (l Look) Named(name, addr string) (named bool) {
	l.shop(func(e fixtures.Entry) {
		named = named || e.Addr == addr && (name == addr || e.Instance == name)
	})

	return named
}

// said merges the entries of an address. It takes the highest weight, and the
// first version and zone that are set.
func (l Look) said(addr string) (all fixtures.Said) {
	l.shop(func(e fixtures.Entry) {
		if e.Addr == addr {
			all.Version = cmp.Or(all.Version, e.Version)
			all.Zone = cmp.Or(all.Zone, e.Zone)
			all.Weight = max(all.Weight, e.Weight)
		}
	})

	return all
}

// drained reports whether names contain the instance id of the server at an
// address.
func (l Look) drained(names []string, addr string) bool {
	return slices.ContainsFunc(l.Servers, func(s Server) bool {
		return s.Addr == addr && slices.Contains(names, cmp.Or(s.Name, s.Addr))
	})
}
