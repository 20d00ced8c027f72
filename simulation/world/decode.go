package world

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// said is what an entry says of an instance.
type said struct {
	Addr, Version, Zone, Methods string
	Weight                       uint32 // 1 stands for none as well
}

// wanted returns what the entries of a service are to say of the server. It must be called with mu held.
func (s *server) wanted(key string) said {
	want := said{Addr: s.addr, Version: s.spec.Version, Zone: s.spec.Zone, Weight: max(1, s.spec.Weight)}
	switch {
	case s.spec.Mode == schedule.Register: // a registration by hand knows no methods
	case key == userKey:
		want.Methods = strings.TrimPrefix(userWho, "/")
	case s.spec.Newer:
		want.Methods = strings.TrimPrefix(shopLead, "/") + ",Who,WhoNewer"
	default:
		want.Methods = strings.TrimPrefix(shopLead, "/") + ",Who"
	}
	return want
}

// layouts returns the layouts of the server's entries.
func (s *server) layouts() []string {
	if len(s.spec.Layouts) == 0 {
		return []string{schedule.EndpointJSON}
	}
	return s.spec.Layouts
}

// etcdKeys returns the keys that the server's entries of a service may have, given its leases.
func (s *server) etcdKeys(key string, leases []int64) []string {
	_, addr := s.known()
	var keys []string
	for _, layout := range s.layouts() {
		switch {
		case layout == schedule.GoZero:
			for _, id := range leases {
				keys = append(keys, fmt.Sprintf("%s/%d", key, id))
			}
		case s.spec.Named:
			keys = append(keys, key+"/"+s.instanceID())
		default:
			keys = append(keys, key+"/"+addr)
		}
	}
	return keys
}

// lacks describes the entries of a service that etcd lacks of the server: those that say what they are to say.
func (s *server) lacks(key string) string {
	s.mu.Lock()
	want := s.wants[key]
	s.mu.Unlock()
	entries := s.w.etcd.Entries(key + "/")
	var lacks []string
	for _, layout := range s.layouts() {
		in := want.in(layout)
		if !slices.ContainsFunc(entries, func(e etcd.Entry) bool { return e.Lease != noLease && decode(layout, e.Value) == in }) {
			lacks = append(lacks, fmt.Sprintf("no entry of %s in %s says %+v", key, layout, in))
		}
	}
	return strings.Join(lacks, "; ")
}

// in returns what an entry has room for in a layout.
func (s said) in(layout string) said {
	if layout == schedule.Plain || layout == schedule.GoZero {
		return said{Addr: s.Addr}
	}
	return s
}

// decode returns what a value says in a layout, an address that nobody has if it is in another.
func decode(layout, value string) said {
	switch layout {
	case schedule.Plain, schedule.GoZero:
		return said{Addr: value}
	case schedule.Kratos:
		return decodeKratos(value)
	case schedule.Kitex:
		return decodeKitex(value)
	default:
		return decodeEndpoint(value)
	}
}

// leavingMark is the metadata of an entry that is about to go, and methodsName that which says what methods are served there.
const (
	leavingMark = "grpc_leaving"
	methodsName = "grpc_methods"
)

// told fills in what metadata tells, and forgets an entry that is about to go.
func (s said) told(metadata map[string]string) said {
	if _, ok := metadata[leavingMark]; ok {
		return said{}
	}
	s.Version, s.Zone, s.Methods = cmp.Or(s.Version, metadata["version"]), metadata["zone"], metadata[methodsName]
	if weight, err := strconv.ParseUint(metadata["weight"], 10, 32); err == nil {
		s.Weight = uint32(weight)
	}
	s.Weight = max(1, s.Weight)
	return s
}

func decodeEndpoint(value string) said {
	var entry struct {
		Addr     string
		Metadata map[string]any
	}
	if json.Unmarshal([]byte(value), &entry) != nil {
		return said{}
	}
	metadata := make(map[string]string)
	for name, value := range entry.Metadata {
		metadata[name] = fmt.Sprint(value)
	}
	return said{Addr: entry.Addr}.told(metadata)
}

func decodeKratos(value string) said {
	var entry struct {
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []string          `json:"endpoints"`
	}
	if json.Unmarshal([]byte(value), &entry) != nil || len(entry.Endpoints) == 0 {
		return said{}
	}
	return said{Addr: strings.TrimPrefix(entry.Endpoints[0], "grpc://"), Version: entry.Version}.told(entry.Metadata)
}

func decodeKitex(value string) said {
	var entry struct {
		Address string            `json:"address"`
		Weight  uint32            `json:"weight"`
		Tags    map[string]string `json:"tags"`
	}
	if json.Unmarshal([]byte(value), &entry) != nil {
		return said{}
	}
	return said{Addr: entry.Address, Weight: entry.Weight}.told(entry.Tags)
}
