package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// littleSpace is the part of its quota from which on a database is told of. A full one takes no write, and so no registration.
const littleSpace = 80 // percent

// etcdHosts returns endpoints of etcd without their schemes. A Unix socket is on this host.
func etcdHosts(endpoints []string) (hosts []string) {
	for _, e := range endpoints {
		if strings.HasPrefix(e, "unix") {
			continue
		}
		if _, rest, ok := strings.Cut(e, "://"); ok {
			e = strings.Trim(rest, "/")
		}
		hosts = append(hosts, e)
	}
	return hosts
}

// checkEtcd finds what is wrong with etcd itself. dead are the hosts of members that accept no connection; nil: none was tried.
func (p *patient) checkEtcd(c *store.Cluster, dead map[string]error) {
	isFull := slices.Contains(c.Alarms, "NOSPACE")
	if isFull {
		p.report(KindEtcd, "etcd has the alarm NOSPACE: it takes no write, so no server can register, and no lease that runs out is replaced",
			"make room, and then disarm it: etcdctl compact REVISION; etcdctl defrag --cluster; etcdctl alarm disarm").Severity = Error
	}
	if slices.Contains(c.Alarms, "CORRUPT") {
		p.report(KindEtcd, "etcd has the alarm CORRUPT: its members do not hold the same, and answer differently",
			"replace the member that differs: etcdctl endpoint hashkv --cluster tells which; etcdctl member remove ID, and add it anew with no data").Severity = Error
	}
	var told []string // hosts
	for _, a := range c.Addresses {
		switch {
		case a.Err != nil:
			told = append(told, etcdHosts([]string{a.At})...)
			p.report(KindEtcd, fmt.Sprintf("etcd does not answer at %s, which --endpoints names: %v", a.At, a.Err),
				"see that this member runs; if it is gone for good, leave it out, here and in the clients of the services")
		case a.Quota > 0 && a.Size*100 > littleSpace*a.Quota && !isFull:
			p.report(KindEtcd, fmt.Sprintf("the database of etcd at %s takes %d of %d MiB: once it is full, no server can register", a.At, a.Size>>20, a.Quota>>20),
				"make room: etcdctl compact REVISION; etcdctl defrag --cluster; or give etcd a larger --quota-backend-bytes")
		}
	}
	if c.Open {
		p.report(KindEtcd, "etcd has users, or --user was given, and its authentication is off: whoever reaches it may read and write all keys", "etcdctl auth enable")
	}
	p.checkMembers(c.Members, dead, told)
}

// checkMembers finds members of etcd that are missing, but for hosts that were told of. Where none of them can be reached from
// here, etcd is behind something, and that says nothing.
func (p *patient) checkMembers(members []store.Member, dead map[string]error, told []string) {
	voters, reached := 0, 0
	var away []string
	for _, m := range members {
		hosts := etcdHosts(m.URLs)
		switch {
		case m.Name == "" && m.Learner:
			p.report(KindEtcd, fmt.Sprintf("the learner %s of etcd was added and never started, so it takes no other's place", m.ID),
				"start it, and then promote it: etcdctl member promote "+m.ID+"; or take it out again: etcdctl member remove "+m.ID)
		case m.Name == "":
			p.report(KindEtcd, fmt.Sprintf("the member %s of etcd was added and never started, and counts for the majority that etcd needs", m.ID),
				"start it, or take it out again: etcdctl member remove "+m.ID)
		case dead == nil || len(hosts) == 0:
		case !slices.ContainsFunc(hosts, func(host string) bool { return dead[host] != nil }):
			reached++
		case !slices.ContainsFunc(hosts, func(host string) bool { return slices.Contains(told, host) }):
			away = append(away, fmt.Sprintf("%.80s at %s", m.Name, strings.Join(hosts, ", ")))
		}
		if !m.Learner {
			voters++
		}
	}
	if len(away) > 0 && reached > 0 {
		p.report(KindEtcd, fmt.Sprintf("%d of %d members of etcd accept no connection from here: %s", len(away), len(members), output.SomeOf(away)),
			fmt.Sprintf("see that they run: etcd stops once fewer than %d do; etcdctl endpoint health --cluster", voters/2+1))
	}
	if voters == 2 {
		p.report(KindEtcd, "etcd has 2 members, and stops when either is down", "add a third: etcdctl member add").Severity = Note
	}
}
