package acme

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// What operators put.
const (
	// Nobody is an entry of an address that nobody serves.
	Nobody     = `{"Addr":"` + NobodyAddr + `"}`
	NobodyAddr = "10.9.0.9:80"
	NobodyKey  = ShopKey + "/nobody"
	// Added is the address of an entry that a process adds, and that nobody serves.
	Added = "10.9.0.8:80"
	// BadKey holds an entry that readers skip.
	BadKey = ShopKey + "/bad"
	// NoLease is for keys that stay until they are deleted.
	NoLease = 0
)

// IsOperators reports whether an operator has put the entry.
func IsOperators(e etcd.Entry) bool {
	return (e.Value == Nobody || AddrIn(e.Value) == Added) && e.Lease == NoLease || e.Key == BadKey
}

// The metadata of an entry that is about to go, and those that say what methods are served there.
const (
	LeavingMark = "grpc_leaving"
	MethodsName = "grpc_methods"
)

var addrPattern = regexp.MustCompile(`10\.\d+\.\d+\.\d+:\d+`)

// remembered holds what was read of values, for the same ones are looked at again and again.
var remembered sync.Map

// recall returns what is remembered of a key, and finds and remembers it if there is nothing.
func recall[K comparable, V any](key K, find func(K) V) V {
	if v, ok := remembered.Load(key); ok {
		return v.(V)
	}
	v := find(key)
	remembered.Store(key, v)
	return v
}

// AddrIn returns the address that a value names.
func AddrIn(value string) string { return recall(value, addrIn) }

func addrIn(value string) string {
	for _, l := range schedule.Layouts {
		if l.Addr != nil && l.Addr(value) != "" {
			return l.Addr(value)
		}
	}
	return addrPattern.FindString(value)
}

// Address returns the address that an entry names, "" if readers are to skip it.
func Address(key, value string) string {
	if key == BadKey || strings.Contains(value, LeavingMark) {
		return ""
	}
	return AddrIn(value)
}

// instancePattern finds the instance id in an entry that has it in its value.
var instancePattern = regexp.MustCompile(`"id":"([^"]+)"`)

// leasePattern finds a key that is named by its lease, which is no name for the instance.
var leasePattern = regexp.MustCompile(`/\d+$`)

// NamesIn returns the instance ids that an entry may give its address.
func NamesIn(key, value string) []string {
	var names []string
	if strings.HasPrefix(value, "{") || !leasePattern.MatchString(key) {
		names = append(names, path.Base(key))
	}
	if id := instancePattern.FindStringSubmatch(value); id != nil {
		names = append(names, id[1])
	}
	return names
}

// Said is what an entry says of an instance.
type Said struct {
	Addr, Version, Zone, Methods string
	Tier                         string // of the metadata
	Weight                       uint32 // 1 stands for none as well
}

// In returns what an entry has room for in a layout.
func (s Said) In(layout string) Said {
	if l, _ := schedule.LayoutNamed(layout); l.Bare {
		return Said{Addr: s.Addr}
	}
	return s
}

// Decode returns what a value says in a layout, an address that nobody has if it is in another.
func Decode(layout, value string) Said { return recall(read{layout, value}, decode) }

// read is a value read in a layout.
type read struct{ layout, value string }

func decode(of read) Said {
	l, ok := schedule.LayoutNamed(of.layout)
	if !ok {
		return Said{}
	}
	entry, ok := l.Read(of.value)
	switch {
	case !ok:
		return Said{}
	case l.Bare:
		return Said{Addr: entry.Addr}
	}
	metadata := make(map[string]string)
	for name, value := range entry.Metadata {
		metadata[name] = fmt.Sprint(value)
	}
	return Said{Addr: entry.Addr, Version: entry.Version, Weight: entry.Weight}.with(metadata)
}

// with fills in what metadata says, and forgets an entry that is about to go.
func (s Said) with(metadata map[string]string) Said {
	if _, ok := metadata[LeavingMark]; ok {
		return Said{}
	}
	s.Version, s.Zone, s.Methods = cmp.Or(s.Version, metadata["version"]), metadata["zone"], metadata[MethodsName]
	s.Tier = metadata["tier"]
	if weight, err := strconv.ParseUint(metadata["weight"], 10, 32); err == nil {
		s.Weight = uint32(weight)
	}
	s.Weight = max(1, s.Weight)
	return s
}
