package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// inUse reports whether the service has an entry, even if no client can read it.
func (s *service) inUse() bool { return len(s.instances)+len(s.malformed) > 0 }

// checkTLSNames finds the services whose servers TLS cannot tell apart. It goes by their keys, for etcd does not hold
// the authority that a proto sets.
func checkTLSNames(services []*service, full func(key string) string) (all []finding) {
	keys := make(map[string][]string)
	for _, s := range services {
		if name := servicekey.TLSName(s.key, ""); name != "" && s.inUse() {
			keys[name] = append(keys[name], s.key)
		}
	}
	for _, name := range sortedKeys(keys) {
		if len(keys[name]) < 2 {
			continue
		}
		var quoted, where []string
		for _, key := range slices.Sorted(slices.Values(keys[name])) {
			quoted = append(quoted, fmt.Sprintf("%q", key))
			where = append(where, full(key)+"/")
		}
		all = append(all, finding{kindTLSName, where,
			fmt.Sprintf("the services %s have the TLS name %s by default, so the certificate of one is good for the others, "+
				"and whoever may write the keys of one can send its calls to the servers of another", strings.Join(quoted, ", "), name),
			"set authority in the proto of all but one (docs/security.md), or rename them; etcd does not say what authority a proto sets: where it is done, --skip " + string(kindTLSName)})
	}
	return all
}

// checkSuffix finds a service o whose key continues, with a digit, the key of a service s in the lease suffix layout,
// as the lease ids of s's entries do.
func checkSuffix(s, o *service, full func(key string) string) (finding, bool) {
	if !s.uses(endpoint.LeaseSuffix) || servicekey.OverlapOf(s.key, o.key, true) != servicekey.Continued {
		return finding{}, false
	}
	problem := fmt.Sprintf("the key %q continues %q with a digit, as the lease ids of its entries do: "+
		"the range that the servers and callers of the latter need takes in the former, so they may write and read it", o.key, s.key)
	fix := fmt.Sprintf("rename one of them; until then leave %q to %q out of what the role of the servers of %q may write (docs/security.md)",
		full(o.key)+"/", full(o.key)+"0", s.key)
	if o.uses(endpoint.LeaseSuffix) {
		problem += ", and who may write the former can put entries of the latter"
		fix = "rename one of them: no range can tell the lease ids of the two apart"
	}
	return finding{kindNeighbour, []string{full(s.key), full(o.key)}, problem, fix}, true
}
