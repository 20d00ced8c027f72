package acme

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Entries of operators.
const (
	// Nobody is an entry of an address without a server.
	Nobody     = `{"Addr":"` + NobodyAddr + `"}`
	NobodyAddr = "10.9.0.9:80"
	NobodyKey  = ShopKey + "/nobody"
	// Added is the address, without a server, of an entry that a process adds.
	Added = "10.9.0.8:80"
	// BadKey holds an entry that readers skip.
	BadKey = ShopKey + "/bad"
	// NoLease marks keys that stay until they are deleted.
	NoLease = 0
)

// IsOperators reports whether an operator has put the entry.
func IsOperators(e etcd.Entry) bool {
	return (e.Value == Nobody || AddrIn(e.Value) == Added) && e.Lease == NoLease || e.Key == BadKey
}

// The metadata keys of the mark of leaving and of the methods served.
const (
	LeavingMark = "grpc_leaving"
	MethodsName = "grpc_methods"
)

var addrPattern = regexp.MustCompile(`10\.\d+\.\d+\.\d+:\d+`)

// remembered caches the results of recall: the same texts are read again and again.
var remembered sync.Map

// recall returns the result of read for a text. It caches the result by as and the text.
func recall[V any](as, text string, read func(text string) V) V {
	key := [2]string{as, text}
	if v, ok := remembered.Load(key); ok {
		return v.(V)
	}
	v := read(text)
	remembered.Store(key, v)
	return v
}

// AddrIn returns the address that a value names.
func AddrIn(value string) string { return recall("address", value, addrPattern.FindString) }

// Address returns the address in an entry, or "" if readers must skip the entry.
func Address(key, value string) string {
	if key == BadKey || strings.Contains(value, LeavingMark) {
		return ""
	}
	return AddrIn(value)
}

// instancePattern finds the instance id in an entry that has it in its value.
var instancePattern = regexp.MustCompile(`"id":"([^"]+)"`)

// leasePattern matches a key with a lease id, which does not identify the instance.
var leasePattern = regexp.MustCompile(`/\d+$`)

// Names reports whether an entry may assign an instance id to an address.
func Names(key, value, addr, id string) bool {
	if Address(key, value) != addr {
		return false
	}
	named := strings.HasPrefix(value, "{") || !leasePattern.MatchString(key)
	return named && path.Base(key) == id || slices.Contains(instancePattern.FindStringSubmatch(value), id)
}

// Said is an entry's description of an instance.
type Said struct {
	Addr, Version, Zone, Methods string
	Tier                         string // of the metadata
	Weight                       uint32 // 0 is stored as 1
}

// In returns the fields of s that entries in a layout can hold.
func (s Said) In(layout string) Said {
	if schedule.LayoutNamed(layout).Bare {
		return Said{Addr: s.Addr}
	}
	return s
}

// Decode returns the description in a value of a layout, or the zero Said if the value is in another layout or marked as leaving.
func Decode(layout, value string) Said {
	return recall(layout, value, func(value string) Said { return decode(schedule.LayoutNamed(layout), value) })
}

func decode(l schedule.Layout, value string) Said {
	e, ok := l.Read(value)
	if _, leaves := e.Metadata[LeavingMark]; !ok || leaves {
		return Said{}
	}
	if l.Bare {
		return Said{Addr: e.Addr}
	}
	metadata := make(map[string]string)
	for name, value := range e.Metadata {
		metadata[name] = fmt.Sprint(value)
	}
	weight, _ := strconv.ParseUint(metadata["weight"], 10, 32) // 0 if there is none
	return Said{
		Addr: e.Addr, Version: cmp.Or(e.Version, metadata["version"]), Zone: metadata["zone"], Methods: metadata[MethodsName],
		Tier: metadata["tier"], Weight: max(1, e.Weight, uint32(weight)),
	}
}
