package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
)

// checkTLSNames finds the services whose servers TLS cannot tell apart. It goes by their keys, for etcd does not hold
// the authority that a proto sets.
func checkTLSNames(services []*survey.Service, full func(key string) string) (all []Finding) {
	keys := make(map[string][]string)
	for _, s := range services {
		if name := servicekey.TLSName(s.Key, ""); name != "" && s.InUse() {
			keys[name] = append(keys[name], s.Key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		if len(keys[name]) < 2 {
			continue
		}
		var quoted, where []string
		for _, key := range slices.Sorted(slices.Values(keys[name])) {
			quoted = append(quoted, fmt.Sprintf("%q", key))
			where = append(where, full(key)+"/")
		}
		all = append(all, newFinding(KindTLSName, where,
			fmt.Sprintf("the services %s have the TLS name %s by default, so the certificate of one is good for the others, "+
				"and whoever may write the keys of one can send its calls to the servers of another", strings.Join(quoted, ", "), name),
			"set authority in the proto of all but one (docs/security.md), or rename them; etcd does not say what authority a proto sets: where it is done, --skip "+string(KindTLSName)))
	}
	return all
}

// checkSuffix finds a service o whose key continues, with a digit, the key of a service s in the lease suffix layout,
// as the lease ids of s's entries do.
func checkSuffix(s, o *survey.Service, full func(key string) string) (Finding, bool) {
	if !s.Uses(endpoint.LeaseSuffix) || servicekey.OverlapOf(s.Key, o.Key, true) != servicekey.Continued {
		return Finding{}, false
	}
	problem := fmt.Sprintf("the key %q continues %q with a digit, as the lease ids of its entries do: "+
		"the range that the servers and callers of the latter need takes in the former, so they may write and read it", o.Key, s.Key)
	fix := fmt.Sprintf("rename one of them; until then leave %q to %q out of what the role of the servers of %q may write (docs/security.md)",
		full(o.Key)+"/", full(o.Key)+"0", s.Key)
	if o.Uses(endpoint.LeaseSuffix) {
		problem += ", and who may write the former can put entries of the latter"
		fix = "rename one of them: no range can tell the lease ids of the two apart"
	}
	return newFinding(KindNeighbour, []string{full(s.Key), full(o.Key)}, problem, fix), true
}
