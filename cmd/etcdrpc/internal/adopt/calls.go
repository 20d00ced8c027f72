package adopt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// The fields by which other registries say that an instance is not to be called, as normalName returns them, and the
// values that say so, in lower case.
var (
	yesNames   = []string{"enabled", "enable", "active", "alive", "healthy", "ready", "up", "online", "available"}
	noNames    = []string{"disabled", "down", "offline", "deleted", "drained", "draining", "maintenance"}
	stateNames = []string{"status", "state", "health"}

	yesValues  = []string{"true", "1", "yes", "on"}
	noValues   = []string{"false", "0", "no", "off"}
	downStates = []string{"down", "offline", "inactive", "disabled", "unhealthy", "dead", "stopped", "stopping", "drained", "draining",
		"maintenance", "out_of_service", "not_serving", "critical"}
)

// saysDown reports whether a value says that its instance is not to be called.
func saysDown(l survey.Leaf) bool {
	name, value := survey.NormalName(l.Name()), strings.ToLower(rawjson.Text(l.Value))
	switch {
	case slices.Contains(yesNames, name):
		return slices.Contains(noValues, value)
	case slices.Contains(noNames, name):
		return slices.Contains(yesValues, value)
	}
	return slices.Contains(stateNames, name) && slices.Contains(downStates, value)
}

// examineDown finds instances that clients would call, though their entries say that they are not to be called.
func (p *Proposal) examineDown() {
	found, first := p.havingLeaf(func(_ survey.Instance, l survey.Leaf) bool { return saysDown(l) })
	if len(found) > 0 {
		p.findAmong(kindInactive, found,
			fmt.Sprintf("a value that seems to say that the instance is not to be called, such as %s is %s: clients call it all the same", survey.ShownPath(first.Path), first.Sample()),
			"clients go by what is registered: have its server delete the entry instead, or keep calls from it by etcdrpc drain")
	}
}

// examineLocal finds addresses that mean the host of whoever calls them.
func (p *Proposal) examineLocal() {
	if found := p.matching(func(i survey.Instance) bool { return i.Err == nil && doctor.IsLocal(i.Addr) }); len(found) > 0 {
		p.findAmong(doctor.KindLocal, found, fmt.Sprintf("an address that means the caller's own host, such as %s: clients call it there", found[0].Addr),
			"have its server write an address that callers reach; servers of this project find out theirs, or are told by GRPC_ADVERTISE_ADDR")
	}
}
