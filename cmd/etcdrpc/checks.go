package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// kind is a sort of fault.
type kind string

const (
	kindPermission   kind = "permission"
	kindEmpty        kind = "empty"
	kindMalformed    kind = "malformed"
	kindNoLease      kind = "no-lease"
	kindExpiring     kind = "expiring"
	kindUnreachable  kind = "unreachable"
	kindDuplicate    kind = "duplicate-address"
	kindMixedLayouts kind = "mixed-layouts"
	kindBadKey       kind = "bad-key"
	kindNestedKey    kind = "nested-key"
	kindNeighbour    kind = "neighbour"
	kindTLSName      kind = "tls-name"
	kindBadPolicy    kind = "bad-policy"
	kindOrphanPolicy kind = "orphan-policy"
	kindLane         kind = "lane"
	kindPlaintext    kind = "plaintext-password"
	kindUnlinked     kind = "unlinked-policy"
	kindNoMatch      kind = "no-match"
	kindUnserved     kind = "unserved-method"
	kindNotGRPC      kind = "not-grpc" // this and the next with --deep alone
	kindNotServing   kind = "not-serving"
	kindTransport    kind = "transport"
	kindCertificate  kind = "certificate"
	kindJSONLayout   kind = "json-layout" // of a note
)

var kinds = []struct {
	kind kind
	what string
}{
	{kindPermission, "etcd does not let the user read what it has to"},
	{kindEmpty, "nothing is registered at the KEY given"},
	{kindMalformed, "an entry that no client can read"},
	{kindNoLease, "an entry that stays when its server dies"},
	{kindExpiring, "a lease that nobody renews any more"},
	{kindUnreachable, "an address that accepts no connection"},
	{kindLocal, "an address that means the host of whoever calls it"},
	{kindDuplicate, "several instances with one address"},
	{kindMixedLayouts, "a service written in several layouts"},
	{kindBadKey, "a service key that no client can be given"},
	{kindNestedKey, "a service below another one"},
	{kindNeighbour, "a service that the readers of another one mix up with it"},
	{kindTLSName, "services whose servers TLS cannot tell apart"},
	{kindBadPolicy, "a live policy that clients do not go by"},
	{kindUnlinked, "a live policy that clients do not link by default"},
	{kindNoMatch, "a split or drain of a live policy that names no instance"},
	{kindUnserved, "a methodConfig of a live policy for what no instance serves"},
	{kindOrphanPolicy, "a live policy for a service without instances"},
	{kindLane, "routes of a live policy that put no instance in a lane, or too many"},
	{kindPlaintext, "a password of --user that is sent without TLS"},
	{kindNotGRPC, "a port that does not speak gRPC (--deep)"},
	{kindNotServing, "a server that says it is not serving, or nothing (--deep)"},
	{kindTransport, "plaintext where clients use TLS, or the reverse (--deep)"},
	{kindCertificate, "a certificate that clients refuse (--deep)"},
	{kindJSONLayout, "JSON that clients read only with a json_layout: a note, no fault"},
}

func kindNames() []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k.kind)
	}
	return names
}

func kindsHelp() string {
	var out strings.Builder
	for _, k := range kinds {
		fmt.Fprintf(&out, "  %-18s %s\n", k.kind, k.what)
	}
	return out.String()
}

// finding is one thing that is wrong.
type finding struct {
	Kind    kind     `json:"kind"`
	Where   []string `json:"where"` // keys of etcd, in full
	Problem string   `json:"problem"`
	Fix     string   `json:"fix"`
}

// check looks at what was read. Faults of one cause are told once.
func (p *patient) check(d *doctor) []finding {
	var all []finding
	unreachable := make(map[string]int) // the index in all of what was said of an address
	for _, s := range p.examined() {
		all = append(all, p.checkKey(s)...)
		for _, i := range s.malformed {
			all = append(all, p.malformed(s, &i))
		}
		for n := range s.instances {
			for _, f := range p.checkInstance(&s.instances[n], d) {
				addr := s.instances[n].Addr
				at, told := unreachable[addr]
				switch {
				case f.Kind != kindUnreachable:
				case told:
					all[at].Where = append(all[at].Where, f.Where...)
					continue
				default:
					unreachable[addr] = len(all)
				}
				all = append(all, f)
			}
		}
		all = append(all, p.checkSpeech(s, d)...)
		all = append(all, p.checkDuplicates(s)...)
		all = append(all, p.checkLayouts(s)...)
		all = append(all, p.checkNeighbours(s)...)
		all = append(all, p.checkPolicy(s)...)
	}
	all = append(all, checkTLSNames(p.services, p.full)...)
	return append(all, p.checkPassword()...)
}

func (p *patient) checkKey(s *service) []finding {
	if err := endpoint.CheckKey(s.key); err != nil {
		where, fix := p.full(s.key), "have its servers use another key: this one is refused by clients and when code is generated"
		if s.config != nil && !s.inUse() {
			where = p.full(s.config.key)
			fix = "no client can be given this key, so the live policy for it has no effect: etcdctl del " + shell(where)
		}
		return []finding{{kindBadKey, []string{where}, err.Error(), fix}}
	}
	if !s.inUse() && !s.closed && s.config == nil && len(p.findings) == 0 {
		return []finding{{kindEmpty, []string{p.full(s.key) + "/"}, "nothing is registered there",
			"if servers of it are running, compare their key and namespace with these, and look at their logs; etcdrpc ls shows what there is"}}
	}
	return nil
}

// noteHomeMade notes that a service has entries in JSON that only clients with a json_layout read.
func (p *patient) noteHomeMade(s *service) []finding {
	var where []string
	var writer string
	n := 0
	for _, i := range s.instances {
		if s.isMapped(i) {
			if n++; n <= maxWhere {
				where = append(where, p.full(i.entry.key))
			}
			if name := writerOf(s.key, i.entry); name != "" {
				writer = " of " + name
			}
		}
	}
	if n == 0 {
		return nil
	}
	return []finding{{kindJSONLayout, where, entriesAre(n) + " in JSON" + writer + " that clients read only with a json_layout, and etcd does not hold theirs",
		fmt.Sprintf("see that the proto has json_layout: %v, or the like; the whole option: etcdrpc adopt %s", s.homeMade.layout, p.word(s.key))}}
}

// checkInstance tells what is wrong with an entry. That a dead server's lease is not renewed goes
// without saying.
func (p *patient) checkInstance(i *instance, d *doctor) (all []finding) {
	key := p.full(i.entry.key)
	if i.entry.lease == 0 {
		all = append(all, finding{kindNoLease, []string{key}, "the entry hangs on no lease, so it stays when its server dies",
			"unless somebody keeps it there on purpose, as Registry.Add does, have its server register itself" + p.deletion(i, "; if it has no server any more")})
	}
	if i.Leaving() {
		return all // clients call it no more, so it may stop
	}
	if misleading := p.checkAddress(i); misleading != nil {
		return append(all, misleading...)
	}
	if err := p.dead[i.Addr]; err != nil {
		fix := "if the lease runs out, the server is dead and the entry goes by itself; if it is renewed, the server lives: "
		if i.entry.lease == 0 {
			fix = fmt.Sprintf("if the server is dead: etcdctl del %s; else ", shell(key))
		}
		return append(all, finding{kindUnreachable, []string{key},
			fmt.Sprintf("%s accepts no connection from here: %s; %s", i.Addr, reason(err, d), p.leaseState(i.entry.lease)),
			fix + "look at the address that it advertises (GRPC_ADVERTISE_ADDR) and at what is between; if only this host cannot reach it: --no-dial"})
	}
	if p.stale[i.entry.lease] {
		problem := p.leaseState(i.entry.lease)
		if p.probed {
			problem += fmt.Sprintf(", though %s accepts connections", i.Addr)
		}
		all = append(all, finding{kindExpiring, []string{key}, problem,
			"look at the server's log for why it does not reach etcd: when the time is up, its clients lose it"})
	}
	return all
}

// leaseState is what is known of an entry's lease, in words.
func (p *patient) leaseState(id int64) string {
	t := p.leases[id]
	switch {
	case id == 0:
		return "its entry has no lease"
	case p.stale[id]:
		return fmt.Sprintf("nobody renews its lease %s, which has %s of %s left", leaseName(id), seconds(max(t.left, 0)), seconds(t.granted))
	}
	return fmt.Sprintf("its lease %s has %s of %s left", leaseName(id), seconds(max(t.left, 0)), seconds(t.granted))
}

// word returns a service key as a command of etcdrpc takes it, after the flag that says in which namespace it is.
func (p *patient) word(key string) string {
	namespace := p.full("")
	if namespace == "" {
		return shell(key)
	}
	return "--namespace=" + strings.TrimPrefix(shell(namespace), "-- ") + " " + shell(key)
}

// reason is why a connection failed, without the address, which is told already.
func reason(err error, d *doctor) string {
	var op *net.OpError
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer within " + d.probeTimeout.String()
	}
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// checkDuplicates finds different entries of one layout with one address. In two layouts it is one
// instance that writes both.
func (p *patient) checkDuplicates(s *service) (all []finding) {
	type place struct {
		layout endpoint.Layout
		addr   string
	}
	keys := make(map[place][]string)
	var order []place
	for _, i := range s.instances {
		if p.stale[i.entry.lease] || i.Leaving() {
			continue // what a restarted server left behind
		}
		at := place{i.layout, i.Addr}
		if keys[at] == nil {
			order = append(order, at)
		}
		keys[at] = append(keys[at], p.full(i.entry.key))
	}
	for _, at := range order {
		if n := len(keys[at]); n > 1 {
			all = append(all, finding{kindDuplicate, keys[at],
				fmt.Sprintf("%d entries say that they are at %s, and clients take them for one instance", n, at.addr),
				"have each server advertise an address of its own, or keep one instance id over restarts; what an earlier run left behind goes with its lease"})
		}
	}
	return all
}

func (p *patient) checkLayouts(s *service) []finding {
	count := make(map[string]int)
	first := make(map[string]string)
	written := make(map[string]map[string]bool) // the layouts of each address
	for _, i := range s.instances {
		name := s.layoutName(i)
		if written[i.Addr] == nil {
			written[i.Addr] = make(map[string]bool)
		}
		written[i.Addr][name] = true
		if count[name]++; count[name] == 1 {
			first[name] = p.full(i.entry.key)
		}
	}
	partly := func(layouts map[string]bool) bool { return len(layouts) < len(count) }
	if !slices.ContainsFunc(slices.Collect(maps.Values(written)), partly) {
		return nil // the readers of each layout find every server
	}
	var parts, where []string
	for _, name := range sortedKeys(count) {
		parts = append(parts, fmt.Sprintf("%s (%d)", name, count[name]))
		where = append(where, first[name])
	}
	return []finding{{kindMixedLayouts, where, fmt.Sprintf("%s is written in %d layouts: %s; clients of this project read them all, others may not",
		s.key, len(count), strings.Join(parts, ", ")),
		"finish the migration, if this is one (docs/layouts.md); else give all servers of the service one layout"}}
}
