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

// downFindings reports instances that clients would call, though their entries say that they are not to be called.
func (p *Proposal) downFindings() []doctor.Finding {
	said := ""
	found := p.matching(func(i survey.Instance) bool {
		if i.Err != nil || !survey.IsObject(i.Entry.Value) {
			return false
		}
		leaves := survey.LeavesOf(i.Entry.Value)
		at := slices.IndexFunc(leaves, saysDown)
		if at >= 0 && said == "" {
			said = fmt.Sprintf("%s is %s", survey.ShownPath(leaves[at].Path), leaves[at].Sample())
		}
		return at >= 0
	})
	if len(found) == 0 {
		return nil
	}
	return []doctor.Finding{{Kind: kindInactive, Where: p.where(found), Problem: fmt.Sprintf("%s a value that seems to say that the instance is not to be called, such as %s: clients call it all the same", entriesHave(len(found)), said),
		Fix: "clients go by what is registered: have its server delete the entry instead, or keep calls from it by etcdrpc drain"}}
}

// localFindings reports addresses that mean the host of whoever calls them.
func (p *Proposal) localFindings() []doctor.Finding {
	found := p.matching(func(i survey.Instance) bool { return i.Err == nil && doctor.IsLocal(i.Addr) })
	if len(found) == 0 {
		return nil
	}
	return []doctor.Finding{{Kind: doctor.KindLocal, Where: p.where(found), Problem: fmt.Sprintf("%s an address that means the caller's own host, such as %s: clients call it there", entriesHave(len(found)), found[0].Addr),
		Fix: "have its server write an address that callers reach; servers of this project find out theirs, or are told by GRPC_ADVERTISE_ADDR"}}
}
