package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	{kindDuplicate, "several instances with one address"},
	{kindMixedLayouts, "a service written in several layouts"},
	{kindBadKey, "a service key that no client can be given"},
	{kindNestedKey, "a service below another one"},
	{kindNeighbour, "a service that the readers of another one mix up with it"},
	{kindTLSName, "services whose servers TLS cannot tell apart"},
	{kindBadPolicy, "a live policy that clients do not go by"},
	{kindOrphanPolicy, "a live policy for a service without instances"},
	{kindLane, "routes of a live policy that put no instance in a lane, or too many"},
	{kindPlaintext, "a password of --user that is sent without TLS"},
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

// denied is what etcd does not let the user read, and what comes of it.
func denied(ctx context.Context, s *store, r keyRange, consequence string, err error) finding {
	f := finding{Kind: kindPermission, Problem: err.Error() + ", so " + consequence}
	from := strings.Trim(r.from, "\x00")
	f.Where = []string{s.full(from)}
	if s.user == "" {
		f.Fix = "give the credentials of someone who may: --user"
		return f
	}
	role, rolesErr := s.roles(ctx)
	if rolesErr != nil || len(role) == 0 {
		role = []string{"ROLE"}
	}
	switch {
	case from == "":
		f.Fix = "look as someone who may read all keys, or at a KEY that this user may read"
		f.Where = nil
	case r.end == "":
		f.Fix = fmt.Sprintf("etcdctl role grant-permission %s read %s", shell(role[0]), shell(s.full(from)))
	default:
		f.Fix = fmt.Sprintf("etcdctl role grant-permission --prefix %s read %s", shell(role[0]), shell(s.full(from)))
	}
	return f
}

// check looks at what was read. Faults of one cause are told once.
func (p *patient) check(d *doctor) []finding {
	var all []finding
	unreachable := make(map[string]int) // the index in all of what was said of an address
	for _, s := range p.examined() {
		all = append(all, p.checkKey(s)...)
		for _, i := range s.malformed {
			all = append(all, p.malformed(&i))
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
		return []finding{{kindBadKey, []string{p.full(s.key)}, err.Error(),
			"have its servers use another key: this one is refused by clients and when code is generated"}}
	}
	if len(s.instances)+len(s.malformed) == 0 && s.config == nil && len(p.findings) == 0 {
		return []finding{{kindEmpty, []string{p.full(s.key) + "/"}, "nothing is registered there",
			"if servers of it are running, compare their key and namespace with these, and look at their logs; etcdrpc ls shows what there is"}}
	}
	return nil
}

func (p *patient) malformed(i *instance) finding {
	key := p.full(i.entry.key)
	return finding{kindMalformed, []string{key}, "no client can read the entry: " + i.err.Error(),
		fmt.Sprintf("find out who writes it and have that write a layout of docs/layouts.md; if nobody does: etcdctl del %s", shell(key))}
}

// noteHomeMade notes that a service has entries in JSON that only clients with a json_layout read.
func (p *patient) noteHomeMade(s *service) []finding {
	var where []string
	n := 0
	for _, i := range s.instances {
		if s.isMapped(i) {
			if n++; n <= maxWhere {
				where = append(where, p.full(i.entry.key))
			}
		}
	}
	if n == 0 {
		return nil
	}
	return []finding{{kindJSONLayout, where, entriesAre(n) + " in JSON that clients read only with a json_layout, and etcd does not hold theirs",
		fmt.Sprintf("see that the proto has json_layout: %v, or the like; the whole option: etcdrpc adopt %s", s.homeMade.layout, shell(s.key))}}
}

// checkInstance tells what is wrong with an entry. That a dead server's lease is not renewed goes
// without saying.
func (p *patient) checkInstance(i *instance, d *doctor) (all []finding) {
	key := p.full(i.entry.key)
	if i.entry.lease == 0 {
		all = append(all, finding{kindNoLease, []string{key}, "the entry hangs on no lease, so it stays when its server dies",
			fmt.Sprintf("if nobody keeps it there on purpose, as Registry.Add does: etcdctl del %s, and have the server register itself", shell(key))})
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
		all = append(all, finding{kindExpiring, []string{key}, fmt.Sprintf("%s, though %s accepts connections", p.leaseState(i.entry.lease), i.Addr),
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
		if p.stale[i.entry.lease] {
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
				"have each server advertise an address of its own, or keep one instance id over restarts; delete with etcdctl del what has no server"})
		}
	}
	return all
}

func (p *patient) checkLayouts(s *service) []finding {
	count := make(map[string]int)
	first := make(map[string]string)
	for _, i := range s.instances {
		name := s.layoutName(i)
		if count[name]++; count[name] == 1 {
			first[name] = p.full(i.entry.key)
		}
	}
	if len(count) < 2 {
		return nil
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

// checkNeighbours finds the services that get in the way of this one by their keys.
func (p *patient) checkNeighbours(s *service) (all []finding) {
	for _, o := range p.services {
		if o == s || len(o.instances)+len(o.malformed) == 0 {
			continue
		}
		if strings.HasPrefix(o.key, s.key+"/") && p.parent(o) == s {
			all = append(all, finding{kindNestedKey, []string{p.full(s.key) + "/", p.full(o.key) + "/"},
				fmt.Sprintf("%s lies below %s: who lists the latter by its prefix, as other registries' clients do, finds the instances of both", o.key, s.key),
				"give one of them a key that is not below the other's; the plugin refuses to generate both"})
			continue
		}
		if f, ok := checkSuffix(s, o, p.full); ok {
			all = append(all, f)
			continue
		}
		if why := mixesUp(s, o); why != "" {
			all = append(all, finding{kindNeighbour, []string{p.full(s.key), p.full(o.key)},
				fmt.Sprintf("%s begins like %s: %s", o.key, s.key, why),
				fmt.Sprintf("rename one of them so that neither key begins with the other; until then write nothing under %s that the readers of %s cannot bear (docs/layouts.md)", o.key, s.key)})
		}
	}
	return all
}

// parent is the nearest service that a service lies below.
func (p *patient) parent(s *service) *service {
	var nearest *service
	for _, o := range p.services {
		if strings.HasPrefix(s.key, o.key+"/") && (nearest == nil || len(o.key) > len(nearest.key)) &&
			len(o.instances)+len(o.malformed) > 0 {
			nearest = o
		}
	}
	return nearest
}

// mixesUp says why the readers of a service, who list by its bare key, mix another one up with it; ""
// where they do not. Readers of the layouts that are not named list by the key with a slash.
func mixesUp(s, o *service) string {
	if !strings.HasPrefix(o.key, s.key) || strings.HasPrefix(o.key, s.key+"/") {
		return ""
	}
	has := func(match func(instance) bool) bool { return slices.ContainsFunc(o.instances, match) }
	unparsed := func(i instance) bool { return !kratosParses(i.entry.value) }
	switch {
	case s.uses(endpoint.LeaseSuffix):
		return "gateways that list the lease suffix by the bare key take its instances for their own"
	case s.uses(endpoint.GoFrame) && has(func(i instance) bool { return !namedByAddrs(i.entry.name()) }):
		return "GoFrame's reader lists by the bare key, and panics at a key that does not end in host:port"
	case s.uses(endpoint.GoFrame) && has(func(i instance) bool { return !i.layout.JSON() }):
		return "GoFrame's reader lists by the bare key, and gives up on the whole list over a value that is not JSON"
	case s.uses(endpoint.Kratos) && (has(unparsed) || slices.ContainsFunc(o.malformed, unparsed)):
		return "kratos' reader lists by the bare key, and gives up on the whole list over an entry that it cannot parse"
	}
	return ""
}

// kratosParses reports whether kratos' reader can decode a value as an instance, of whichever service. It takes the fields
// of etcd's naming package and of go-micro that have the names of its own, in either case, for its own.
func kratosParses(value []byte) bool {
	var its struct {
		ID        string            `json:"id"`
		Name      string            `json:"name"`
		Version   string            `json:"version"`
		Metadata  map[string]string `json:"metadata"`
		Endpoints []string          `json:"endpoints"`
	}
	return json.Unmarshal(value, &its) == nil
}

// namedByAddrs reports whether GoFrame's reader can take the last segment of a key for the addresses of a server.
func namedByAddrs(name string) bool {
	for addr := range strings.SplitSeq(name, ",") {
		if strings.Count(addr, ":") != 1 {
			return false
		}
	}
	return true
}

func (p *patient) checkPolicy(s *service) (all []finding) {
	if s.config == nil {
		return nil
	}
	key := p.full(s.config.key)
	if err := checkConfig(string(s.config.value)); err != nil {
		all = append(all, finding{kindBadPolicy, []string{key}, "clients do not go by the live policy: " + err.Error(),
			fmt.Sprintf("etcdrpc policy set %[1]s FILE puts a good one in its place; etcdrpc policy rm %[1]s goes back to the generated one", shell(s.key))})
	} else if m := s.merged(); len(m.instances) > 0 && m.checkLeft(drainList(s.config.value)) != nil {
		all = append(all, finding{kindBadPolicy, []string{key}, "the live policy drains every instance, so clients ignore that and call them all",
			fmt.Sprintf("etcdrpc undrain %s INSTANCE for those that are to be called", shell(s.key))})
	}
	all = append(all, p.checkLanes(s)...)
	if len(s.instances)+len(s.malformed) == 0 {
		all = append(all, finding{kindOrphanPolicy, []string{key}, fmt.Sprintf("there is a live policy for %s, but no instance", s.key),
			fmt.Sprintf("if the key is mistyped or the service gone: etcdrpc policy rm %s", shell(s.key))})
	}
	return all
}
