package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// subject is a service that is examined, and what its clients make of it.
type subject struct {
	*patient
	*survey.Service
	clients *survey.Service       // with the instances that clients make of its entries
	ruled   bool                  // it has a live policy, at a key that clients read
	live    *serviceconfig.Config // the policy, if clients go by it and there are instances
	refused error                 // why they do not
	policy  *serviceconfig.Etcd   // of live; empty where that does not say how to balance
	plan    *survey.Plan          // of a client by policy
}

func (p *patient) subject(s *survey.Service) *subject {
	x := &subject{patient: p, Service: s, clients: s.Merged(), policy: new(serviceconfig.Etcd)}
	if x.ruled = s.Config != nil && endpoint.CheckKey(s.Key) == nil; x.ruled {
		x.live, x.refused = s.Live()
	}
	if len(s.Instances) == 0 {
		x.live = nil
	}
	if policy := s.Policy(); policy != nil && x.live != nil {
		x.policy = policy
	}
	x.plan = x.clients.Plan(x.policy, "")
	return x
}

// check looks at what was read.
func (p *patient) check() {
	for _, s := range p.services {
		x := p.subject(s)
		for _, c := range checks {
			for _, find := range c.find {
				find(x)
			}
		}
	}
	if len(p.exposed) > 0 {
		p.report(KindPlaintext, fmt.Sprintf("the password of --user is sent without TLS to %s: whoever is on the way can read it", strings.Join(p.exposed, ", ")),
			"have etcd serve TLS, and give https:// in --endpoints or --cacert; services that use this etcd with a password send theirs in the same way")
	}
}

func (x *subject) badKey() {
	err := endpoint.CheckKey(x.Key)
	if err == nil {
		return
	}
	where, fix := x.Key, "have its servers use another key: this one is refused by clients and when code is generated"
	if x.Config != nil && !x.InUse() {
		where = x.Config.Key
		fix = "no client can be given this key, so the live policy for it has no effect: " + x.deletion(where)
	}
	x.report(KindBadKey, err.Error(), fix, where)
}

// empty finds a service of which all entries are being withdrawn.
func (x *subject) empty() {
	if n := len(x.Instances); n > 0 && len(x.clients.Instances) == 0 {
		x.report(KindEmpty, fmt.Sprintf("all %s are being withdrawn by their owners, so there is nothing to call", output.Counted(n, "entry")),
			"start a server; what its owner has left behind goes with its lease", x.Key+"/")
	}
}

// isNothing reports whether etcd has nothing of a service, but for candidates.
func isNothing(s *survey.Service) bool { return !s.InUse() && s.Config == nil }

// tooMany finds a service with more than clients keep, unless they are told to by runtime.WithLimits.
func (x *subject) tooMany() {
	const (
		maxEntries = 20_000
		maxBytes   = 32 << 20
	)
	entries, bytes := len(x.Instances)+len(x.Malformed), 0
	for _, i := range x.Instances {
		bytes += len(i.Entry.Key) + len(i.Entry.Value)
	}
	if entries > maxEntries || bytes > maxBytes {
		x.report(KindTooMany, fmt.Sprintf("there are %d entries of %d KiB, and clients keep %d of %d KiB unless they are told otherwise: they do not call the rest", entries, bytes>>10, maxEntries, maxBytes>>10),
			"if they are meant, give clients more room by runtime.WithLimits; if not, find out who puts them: etcdrpc ls "+x.word(x.Key), x.Key+"/")
	}
}

// leader finds a leader that no caller can reach.
func (x *subject) leader() {
	all := x.Standing
	if len(all) == 0 || slices.ContainsFunc(x.Instances, func(i survey.Instance) bool { return i.Instance == all[0].Instance && !i.Leaving() }) {
		return
	}
	x.report(KindLeader,
		fmt.Sprintf("the first candidate for the leader of %s is %.80q, which has no entry that clients call, so every call for the leader waits and fails", x.Key, all[0].Instance),
		"if its server is dead, the candidate goes with its lease; if it lives, its status and log say what keeps its entry out", all[0].Key)
}

// place is where an entry says that an instance is.
type place struct {
	layout endpoint.Layout
	addr   string
}

func placeOf(i *survey.Instance) place { return place{i.Layout, i.Addr} }

// duplicates finds different entries of one layout with one address. In two layouts it is one instance that writes both.
func (x *subject) duplicates() {
	keys := make(map[place][]string)
	for _, i := range x.Instances {
		if lease := x.leases[i.Entry.Lease]; !lease.stale && !lease.behind && !i.Leaving() { // what a restarted server left behind
			keys[placeOf(&i)] = append(keys[placeOf(&i)], i.Entry.Key)
		}
	}
	for _, i := range x.Instances {
		if same := keys[placeOf(&i)]; len(same) > 1 && same[0] == i.Entry.Key {
			x.report(KindDuplicate, fmt.Sprintf("%d entries say that they are at %s, and clients take them for one instance", len(same), i.Addr),
				"have each server advertise an address of its own, or keep one instance id over restarts; what an earlier run left behind goes with its lease", same...)
		}
	}
}

// mixedLayouts finds layouts of which the readers do not find every server.
func (x *subject) mixedLayouts() {
	entries := make(map[string][]string) // keys, by layout
	addrs := make(map[string]bool)
	written := make(map[[2]string]bool) // an address in a layout
	for _, i := range x.Instances {
		layout := i.Layout.String()
		entries[layout] = append(entries[layout], i.Entry.Key)
		addrs[i.Addr], written[[2]string{i.Addr, layout}] = true, true
	}
	if len(written) == len(addrs)*len(entries) {
		return
	}
	var parts, where []string
	for _, layout := range slices.Sorted(maps.Keys(entries)) {
		parts = append(parts, fmt.Sprintf("%s (%d)", layout, len(entries[layout])))
		where = append(where, entries[layout][0])
	}
	x.report(KindMixedLayouts, fmt.Sprintf("%s is written in %d layouts: %s; clients of this project read them all, but lease_suffix only if asked to, and others may not", x.Key, len(parts), strings.Join(parts, ", ")),
		"finish the migration, if this is one (docs/layouts.md); else give all servers of the service one layout", where...)
}

// lostByXDS finds what of a service clients by xDS cannot be told. A live policy that nobody goes by has a finding of its own.
func (x *subject) lostByXDS() {
	if !x.xds || !x.InUse() {
		return
	}
	config, where := "", x.Key+"/"
	if x.live != nil {
		config, where = x.live.JSON(), x.Config.Key
	}
	var endpoints []runtime.Endpoint
	for _, i := range x.clients.Instances {
		endpoints = append(endpoints, runtime.Endpoint(i.Endpoint))
	}
	lost, err := x.Lost(config, endpoints)
	if err != nil {
		lost = []string{err.Error()}
	}
	if len(lost) > 0 {
		x.report(KindXDS, "clients by xDS are not told all: "+strings.Join(lost, "; "),
			"if that matters, do without it where such clients call, or have them do it themselves: docs/xds.md", where)
	}
}

// word returns a service key as a command of etcdrpc takes it, after the flag that says in which namespace it is.
func (p *patient) word(key string) string {
	return output.Word(p.full(""), key)
}

// deletion is the command that deletes a key.
func (p *patient) deletion(key string) string { return "etcdctl del " + output.Shell(p.full(key)) }
