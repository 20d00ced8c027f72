package record

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// instancePattern finds the instance id in an entry that has it in its value.
var instancePattern = regexp.MustCompile(`"id":"([^"]+)"`)

// leasePattern finds a key that is named by its lease, which is no name for the instance.
var leasePattern = regexp.MustCompile(`/\d+$`)

// entryOf returns what the judge is to know of an entry of a service.
func entryOf(key, value string) check.Entry {
	var names []string
	if strings.HasPrefix(value, "{") || !leasePattern.MatchString(key) {
		names = append(names, path.Base(key))
	}
	if id := instancePattern.FindStringSubmatch(value); id != nil {
		names = append(names, id[1])
	}
	return check.Entry{
		Service: path.Dir(key), Addr: acme.Address(key, value), Leaving: strings.Contains(value, acme.LeavingMark), Names: names,
		Tells: strings.Contains(value, acme.MethodsName),
	}
}

// noteEntry has the judge hear of an entry that etcd has from now on, or no longer has if its value is empty. It must be called
// with mu held.
func (r *Record) noteEntry(revision int64, key, value string) {
	if noted := entryOf(key, value); noted.Service == acme.ShopKey || noted.Service == acme.UserKey {
		r.judge.Entry(time.Now(), revision, key, noted)
		r.noted[key] = true
	}
}

// noteAll has the judge hear of the entries that etcd has after it was restored or wiped. It must be called with mu held.
func (r *Record) noteAll(entries []etcd.Entry) {
	for key := range r.noted {
		if !slices.ContainsFunc(entries, func(e etcd.Entry) bool { return e.Key == key }) {
			r.noteEntry(0, key, "")
		}
	}
	for _, e := range entries {
		r.noteEntry(0, e.Key, e.Value)
	}
}

// shop calls each with every entry of the shop that names an address.
func (r *Record) shop(each func(addr string, e etcd.Entry)) {
	for _, e := range r.Etcd.Entries(acme.ShopKey + "/") {
		if addr := acme.Address(e.Key, e.Value); addr != "" {
			each(addr, e)
		}
	}
}

// Registered returns the addresses that etcd has for the shop, sorted.
func (r *Record) Registered() []string {
	var addrs []string
	r.shop(func(addr string, _ etcd.Entry) { addrs = append(addrs, addr) })
	slices.Sort(addrs)
	return slices.Compact(addrs)
}

// Serving returns those of them that somebody serves.
func (r *Record) Serving() []string {
	return slices.DeleteFunc(r.Registered(), func(addr string) bool { return addr == acme.NobodyAddr })
}

// RegisteredSince reports whether etcd has had an entry of an address for some time since a time.
func (r *Record) RegisteredSince(at time.Time, addr string) bool {
	if slices.Contains(r.Registered(), addr) {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.judge.WentSince(at, acme.ShopKey, addr)
}

// RegisteredThroughout returns the addresses that etcd has had for the shop since a time, without a change of their entries or a
// word that they leave: one of several entries may have no room for it.
func (r *Record) RegisteredThroughout(at time.Time) []string {
	changes := r.Since(time.Time{})
	var addrs []string
	r.shop(func(addr string, e etcd.Entry) {
		changed := func(c etcd.Change) bool {
			return !c.At.Before(at) && (c.Key == e.Key || strings.Contains(c.Value, addr))
		}
		if !slices.ContainsFunc(changes, changed) && !saysItLeaves(changes, addr) {
			addrs = append(addrs, addr)
		}
	})
	return addrs
}

// saysItLeaves reports whether the last entry that was put for an address of the shop says that it leaves.
func saysItLeaves(changes []etcd.Change, addr string) bool {
	for _, c := range slices.Backward(changes) {
		if strings.HasPrefix(c.Key, acme.ShopKey+"/") && strings.Contains(c.Value, addr) {
			return acme.Address(c.Key, c.Value) == ""
		}
	}
	return false
}

// Named reports whether etcd has an instance of the shop with a name at an address.
func (r *Record) Named(name, addr string) (named bool) {
	r.shop(func(at string, e etcd.Entry) {
		named = named || at == addr && (name == addr || slices.Contains(entryOf(e.Key, e.Value).Names, name))
	})
	return named
}

// Attribute returns the version or the zone that etcd has for an address.
func (r *Record) Attribute(addr, field string) (value string) {
	r.shop(func(at string, e etcd.Entry) {
		if _, text, ok := strings.Cut(e.Value, `"`+field+`":"`); ok && at == addr && value == "" {
			value, _, _ = strings.Cut(text, `"`)
		}
	})
	return value
}

var weightPattern = regexp.MustCompile(`"weight":"?(\d+)`)

// Weight returns the weight that etcd has for an address.
func (r *Record) Weight(addr string) (weight float64) {
	r.shop(func(at string, e etcd.Entry) {
		if found := weightPattern.FindStringSubmatch(e.Value); found != nil && at == addr && weight == 0 {
			n, _ := strconv.Atoi(found[1]) // 0, as if it were none, if it is too great
			weight = float64(n)
		}
	})
	return max(1, weight)
}

// FirstCandidate returns the candidate that etcd has that was created first.
func (r *Record) FirstCandidate() (first etcd.Entry, ok bool) {
	for _, e := range r.Etcd.Entries(acme.Candidates) {
		if !ok || e.Create < first.Create {
			first, ok = e, true
		}
	}
	return first, ok
}
