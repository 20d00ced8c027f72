package main

import (
	"fmt"
	"slices"
	"strings"

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
func (l leaf) saysDown() bool {
	name, value := normalName(l.name()), strings.ToLower(rawjson.Text(l.value))
	switch {
	case slices.Contains(yesNames, name):
		return slices.Contains(noValues, value)
	case slices.Contains(noNames, name):
		return slices.Contains(yesValues, value)
	}
	return slices.Contains(stateNames, name) && slices.Contains(downStates, value)
}

// downFindings reports instances that clients would call, though their entries say that they are not to be called.
func (p *proposal) downFindings() []finding {
	said := ""
	found := p.matching(func(i instance) bool {
		if i.err != nil || !isObject(i.entry.value) {
			return false
		}
		leaves := leavesOf(i.entry.value)
		at := slices.IndexFunc(leaves, leaf.saysDown)
		if at >= 0 && said == "" {
			said = fmt.Sprintf("%s is %s", shownPath(leaves[at].path), leaves[at].sample())
		}
		return at >= 0
	})
	if len(found) == 0 {
		return nil
	}
	return []finding{{kindInactive, p.where(found), fmt.Sprintf("%s a value that seems to say that the instance is not to be called, such as %s: clients call it all the same", entriesHave(len(found)), said),
		"clients go by what is registered: have its server delete the entry instead, or keep calls from it by etcdrpc drain"}}
}

// localFindings reports addresses that mean the host of whoever calls them.
func (p *proposal) localFindings() []finding {
	found := p.matching(func(i instance) bool { return i.err == nil && isLocal(i.Addr) })
	if len(found) == 0 {
		return nil
	}
	return []finding{{kindLocal, p.where(found), fmt.Sprintf("%s an address that means the caller's own host, such as %s: clients call it there", entriesHave(len(found)), found[0].Addr),
		"have its server write an address that callers reach; servers of this project find out theirs, or are told by GRPC_ADVERTISE_ADDR"}}
}
