package check

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Look is what there is to see of a world at one moment.
type Look struct {
	Entries []etcd.Entry // all that etcd has
	Servers []Server
	Writers []string // the addresses of those that write to etcd by code of their own
	Readers []Reader
}

// Server is a life of a server.
type Server struct {
	ID, Addr string
	Name     string // the instance id, "" where it is the address
	In       bool   // it is to be in etcd
	Elects   bool   // it stands for election
	Layouts  []string
	Wants    map[string]acme.Said // by service: what its entries are to say
	Statuses []runtime.Status
	Leases   []int64 // of its process that etcd has
	Leads    bool

	Registrations, Expected int // how many the registry of its process has, and is to have
}

// Reader is a process that follows the shop.
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

// keys returns the services that the server is to be found under, sorted.
func (s Server) keys() []string {
	var keys []string
	for key := range s.Wants {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// Lacks describes the entries of a service that etcd lacks of the server: those that say what they are to say.
func (s Server) Lacks(l Look, key string) string {
	var lacks []string
	for _, layout := range s.Layouts {
		in := s.Wants[key].In(layout)
		says := func(e etcd.Entry) bool { return e.Lease != acme.NoLease && acme.Decode(layout, e.Value) == in }
		if !slices.ContainsFunc(l.at(key, s.Addr), says) {
			lacks = append(lacks, fmt.Sprintf("no entry of %s in %s says %+v", key, layout, in))
		}
	}
	return strings.Join(lacks, "; ")
}

// Left describes the entries of a service that name the server, "" if there are none.
func (s Server) Left(l Look, key string) string {
	if left := l.at(key, s.Addr); len(left) > 0 {
		return fmt.Sprintf("etcd has %v", left)
	}
	return ""
}

// stands reports whether etcd has a candidate of the server.
func (s Server) stands(l Look) bool {
	return slices.ContainsFunc(l.Candidates(), func(e etcd.Entry) bool {
		return slices.Contains(s.Leases, e.Lease) && e.Value == cmp.Or(s.Name, s.Addr)
	})
}

// Under returns the entries whose keys begin with a prefix.
func (l Look) Under(prefix string) []etcd.Entry {
	from, _ := slices.BinarySearchFunc(l.Entries, prefix, func(e etcd.Entry, prefix string) int { return strings.Compare(e.Key, prefix) })
	to := from
	for to < len(l.Entries) && strings.HasPrefix(l.Entries[to].Key, prefix) {
		to++
	}
	return l.Entries[from:to]
}

// at returns the entries of a service that name an address.
func (l Look) at(key, addr string) (at []etcd.Entry) {
	for _, e := range l.Under(key + "/") {
		if acme.AddrIn(e.Value) == addr {
			at = append(at, e)
		}
	}
	return at
}

// Candidates returns the candidates for the shop's leader.
func (l Look) Candidates() []etcd.Entry { return l.Under(acme.Candidates) }

// Config returns the live config.
func (l Look) Config() (text string, ok bool) {
	for _, e := range l.Under(acme.ConfigKey) {
		if e.Key == acme.ConfigKey {
			return e.Value, true
		}
	}
	return "", false
}

// InForce reports whether callers are to use a live config, given what etcd has. They keep what they have while that is bad.
func (l Look) InForce(config string) bool {
	live, ok := l.Config()
	if !ok {
		return config == ""
	}
	return schedule.BadConfig(live) || acme.Holds(config, live)
}

// Policy returns the service config that decides how the calls of a caller are shared out, whose own is generated. While etcd
// has a bad one, that is the last good one that the caller has seen, which is not known.
func (l Look) Policy(generated string) (config string, known bool) {
	switch live, ok := l.Config(); {
	case !ok:
		return generated, true
	case schedule.BadConfig(live):
		return "", false
	case strings.Contains(live, "loadBalancingConfig"):
		return live, true
	default:
		return generated, true // the live one leaves this field alone
	}
}

// leaves reports whether the policy of a caller may have calls leave for another region: those of a strict lane that nobody is in.
func (l Look) leaves(generated string) bool {
	policy, known := l.Policy(generated)
	p, err := acme.ParsePolicy(policy)
	return !known || err != nil || slices.ContainsFunc(p.Routes, func(r acme.Route) bool { return r.Strict })
}

// Methods returns what the config in force says of methods. While etcd has a bad one, it is not known.
func (l Look) Methods(generated string) (m acme.Methods, known bool) {
	live, ok := l.Config()
	return acme.MethodsOf(live, generated), !ok || !schedule.BadConfig(live)
}

// shop calls each with every entry of the shop that names an address.
func (l Look) shop(each func(addr string, e etcd.Entry)) {
	for _, e := range l.Under(acme.ShopKey + "/") {
		if addr := acme.Address(e.Key, e.Value); addr != "" {
			each(addr, e)
		}
	}
}

// Registered returns the addresses that etcd has for the shop, sorted.
func (l Look) Registered() []string {
	var addrs []string
	l.shop(func(addr string, _ etcd.Entry) { addrs = append(addrs, addr) })
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

// Serving returns those of them that somebody serves.
func (l Look) Serving() []string {
	return slices.DeleteFunc(l.Registered(), func(addr string) bool { return addr == acme.NobodyAddr })
}

// Named reports whether etcd has an instance of the shop with a name at an address.
func (l Look) Named(name, addr string) (named bool) {
	l.shop(func(at string, e etcd.Entry) {
		named = named || at == addr && (name == addr || slices.Contains(acme.NamesIn(e.Key, e.Value), name))
	})
	return named
}

// attribute returns the version or the zone that etcd has for an address.
func (l Look) attribute(addr, field string) (value string) {
	l.shop(func(at string, e etcd.Entry) {
		if _, text, ok := strings.Cut(e.Value, `"`+field+`":"`); ok && at == addr && value == "" {
			value, _, _ = strings.Cut(text, `"`)
		}
	})
	return value
}

var weightPattern = regexp.MustCompile(`"weight":"?(\d+)`)

// weight returns the weight that etcd has for an address.
func (l Look) weight(addr string) (weight float64) {
	l.shop(func(at string, e etcd.Entry) {
		if found := weightPattern.FindStringSubmatch(e.Value); found != nil && at == addr && weight == 0 {
			n, _ := strconv.Atoi(found[1]) // 0, as if it were none, if it is too great
			weight = float64(n)
		}
	})
	return max(1, weight)
}

// drained reports whether the server at an address is among those with these names.
func (l Look) drained(names []string, addr string) bool {
	return slices.ContainsFunc(l.Servers, func(s Server) bool { return s.Addr == addr && slices.Contains(names, cmp.Or(s.Name, s.Addr)) })
}
