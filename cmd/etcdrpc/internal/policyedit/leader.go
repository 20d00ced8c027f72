package policyedit

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// addLeader adds the leader of the service, and a note on its calls.
func (x *Explanation) addLeader(all []inventory.Candidate) {
	if len(all) > 0 {
		x.Leader = all[0].Instance
		x.note("%s leads %s: it gets the calls for the leader, independent of the shares.", x.Leader, x.Key)
	}
}

// addLeader notes what a drain of the leader does.
func (e *Edit) addLeader(all []inventory.Candidate) {
	drain, find := inventory.ListOf(e.newConfig.Policy().Drain), e.Service.Finder()
	stays := func(c inventory.Candidate) bool {
		i, err := find(c.Instance)
		return !drain[c.Instance] && (err != nil || !drain.Has(i))
	}
	switch {
	case len(all) == 0 || stays(all[0]):
	case slices.ContainsFunc(all, stays):
		e.note("%s leads %s. It resigns, and calls for the leader follow, if its server may read the live policy.", all[0].Instance, e.Key)
	default:
		e.note("%s leads %s. It keeps leading, and gets the calls for the leader, until there is a candidate that is not drained.", all[0].Instance, e.Key)
	}
}
