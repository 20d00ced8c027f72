package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// check looks at what was read. Faults of one cause are told once.
func (p *patient) check(d *Options) []Finding {
	var all []Finding
	unreachable := make(map[string]int) // the index in all of what was said of an address
	for _, s := range p.examined() {
		all = append(all, p.checkKey(s)...)
		for _, i := range s.Faulty() {
			all = append(all, p.malformed(s, &i))
		}
		for n := range s.Instances {
			for _, f := range p.checkInstance(&s.Instances[n], d) {
				addr := s.Instances[n].Addr
				at, told := unreachable[addr]
				switch {
				case f.Kind != KindUnreachable:
				case told:
					all[at].Where = append(all[at].Where, f.Where...)
					continue
				default:
					unreachable[addr] = len(all)
				}
				all = append(all, f)
			}
		}
		all = append(all, p.noteHomeMade(s)...)
		all = append(all, p.checkTooMany(s)...)
		all = append(all, p.checkLeader(s)...)
		all = append(all, p.checkSpeech(s, d)...)
		all = append(all, p.checkDuplicates(s)...)
		all = append(all, p.checkLayouts(s)...)
		all = append(all, p.checkNeighbours(s)...)
		all = append(all, p.checkPolicy(s)...)
		if d.xds {
			all = append(all, p.checkXDS(s, d)...)
		}
	}
	all = append(all, p.checkStray(d)...)
	all = append(all, checkTLSNames(p.services, p.full)...)
	return append(all, p.checkPassword()...)
}

func (p *patient) checkKey(s *survey.Service) []Finding {
	if err := endpoint.CheckKey(s.Key); err != nil {
		where, fix := p.full(s.Key), "have its servers use another key: this one is refused by clients and when code is generated"
		if s.Config != nil && !s.InUse() {
			where = p.full(s.Config.Key)
			fix = "no client can be given this key, so the live policy for it has no effect: etcdctl del " + output.Shell(where)
		}
		return []Finding{newFinding(KindBadKey, []string{where}, err.Error(), fix)}
	}
	leaving := func(i survey.Instance) bool { return i.Leaving() }
	if n := len(s.Instances); slices.ContainsFunc(s.Instances, leaving) && len(s.Merged().Instances) == 0 {
		return []Finding{newFinding(KindEmpty, []string{p.full(s.Key) + "/"}, fmt.Sprintf("all %s are being withdrawn by their owners, so there is nothing to call", output.Counted(n, "entry")),
			"start a server; what its owner has left behind goes with its lease")}
	}
	if s.Key == p.key && isNothing(s) && len(p.candidates[s.Key])+len(p.findings) == 0 {
		return []Finding{empty(p.full(s.Key) + "/")}
	}
	return nil
}

// isNothing reports whether etcd has nothing of a service, but for candidates.
func isNothing(s *survey.Service) bool { return !s.InUse() && !s.Closed && s.Config == nil }

// empty is the finding for a key, or a prefix of keys, in full, at which nothing is registered.
func empty(at string) Finding {
	return newFinding(KindEmpty, []string{at}, "nothing is registered there",
		"if servers of it are running, compare their key and namespace with these, and look at their logs; etcdrpc ls shows what there is")
}

// noteHomeMade notes that a service has entries in JSON that only clients with a json_layout read.
func (p *patient) noteHomeMade(s *survey.Service) []Finding {
	var where []string
	var writer string
	n := 0
	for _, i := range s.Instances {
		if s.IsMapped(i) {
			if n++; n <= output.MaxWhere {
				where = append(where, p.full(i.Entry.Key))
			}
			if name := survey.WriterOf(s.Key, i.Entry); name != "" {
				writer = " of " + name
			}
		}
	}
	if n == 0 {
		return nil
	}
	return []Finding{newFinding(KindJSONLayout, where, output.EntriesAre(n)+" in JSON"+writer+" that clients read only with a json_layout, and etcd does not hold theirs",
		fmt.Sprintf("see that the proto has json_layout: %v, or the like; the whole option: etcdrpc adopt %s", s.HomeMade.Layout, p.word(s.Key)))}
}

// checkInstance finds what is wrong with an entry. That a dead server's lease is not renewed goes
// without saying.
func (p *patient) checkInstance(i *survey.Instance, d *Options) (all []Finding) {
	key := p.full(i.Entry.Key)
	if i.Entry.Lease == 0 {
		all = append(all, newFinding(KindNoLease, []string{key}, "the entry hangs on no lease, so it stays when its server dies",
			"unless somebody keeps it there on purpose, as Registry.Add does, have its server register itself"+p.deletion(i, "; if it has no server any more")))
	}
	if t := p.leases[i.Entry.Lease]; t.Granted >= longLease {
		all = append(all, newFinding(KindNoLease, []string{key}, fmt.Sprintf("the entry hangs on a lease of %s, so it stays that long when its server dies", output.Seconds(t.Granted)),
			"have its server register itself, on a lease of seconds that it renews"+p.deletion(i, "; if it has no server any more")))
	}
	if i.Leaving() {
		if p.renewed[i.Entry.Lease] { // clients call it no more, so it may stop
			all = append(all, newFinding(KindLeaving, []string{key}, fmt.Sprintf("%s is marked as being withdrawn, and stays: its lease is renewed, and nobody calls it", i.Addr),
				"look at its server's log; if it is to serve, restart it; if not, stop it, and the entry goes with its lease"))
		}
		return all
	}
	all = append(all, p.checkStarted(i)...)
	all = append(all, p.checkMetadata(i)...)
	if misleading := p.checkAddress(i); misleading != nil {
		return append(all, misleading...)
	}
	if err := p.dead[i.Addr]; err != nil {
		fix := "if the lease runs out, the server is dead and the entry goes by itself; if it is renewed, the server lives: "
		if i.Entry.Lease == 0 || p.leases[i.Entry.Lease].Granted >= longLease {
			fix = fmt.Sprintf("if the server is dead: etcdctl del %s; else ", output.Shell(key))
		}
		return append(all, newFinding(KindUnreachable, []string{key},
			fmt.Sprintf("%s accepts no connection from here: %s; %s", i.Addr, reason(err, d), p.leaseState(i.Entry.Lease)),
			fix+"look at the address that it advertises (GRPC_ADVERTISE_ADDR) and at what is between; if only this host cannot reach it: --no-dial"))
	}
	if p.stale[i.Entry.Lease] && !p.behind[i.Entry.Lease] {
		problem := p.leaseState(i.Entry.Lease)
		if p.probed {
			problem += fmt.Sprintf(", though %s accepts connections", i.Addr)
		}
		all = append(all, newFinding(KindExpiring, []string{key}, problem,
			"look at the server's log for why it does not reach etcd: when the time is up, its clients lose it"))
	}
	return all
}

// longLease is from how many seconds on a lease does not tell a dead server in useful time.
const longLease = 24 * 60 * 60

// leaseState says what is known of an entry's lease.
func (p *patient) leaseState(id int64) string {
	t := p.leases[id]
	switch {
	case id == 0:
		return "its entry has no lease"
	case p.stale[id]:
		return fmt.Sprintf("nobody renews its lease %s, which has %s of %s left", survey.LeaseName(id), output.Seconds(max(t.Left, 0)), output.Seconds(t.Granted))
	}
	return fmt.Sprintf("its lease %s has %s of %s left", survey.LeaseName(id), output.Seconds(max(t.Left, 0)), output.Seconds(t.Granted))
}

// word returns a service key as a command of etcdrpc takes it, after the flag that says in which namespace it is.
func (p *patient) word(key string) string {
	namespace := p.full("")
	if at, found := slices.BinarySearchFunc(p.services, key, compareKeys); found {
		namespace += p.services[at].Namespace
		key = strings.TrimPrefix(key, p.services[at].Namespace)
	}
	if namespace == "" {
		return output.Shell(key)
	}
	return "--namespace=" + strings.TrimPrefix(output.Shell(namespace), "-- ") + " " + output.Shell(key)
}

// reason says why a connection failed, without the address, which is told already.
func reason(err error, d *Options) string {
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

// place is where an entry says that an instance is.
type place struct {
	layout endpoint.Layout
	addr   string
}

func placeOf(i *survey.Instance) place { return place{i.Layout, i.Addr} }

// checkDuplicates finds different entries of one layout with one address. In two layouts it is one
// instance that writes both.
func (p *patient) checkDuplicates(s *survey.Service) (all []Finding) {
	keys := make(map[place][]string)
	var order []place
	for _, i := range s.Instances {
		if p.stale[i.Entry.Lease] || p.behind[i.Entry.Lease] || i.Leaving() {
			continue // what a restarted server left behind
		}
		at := placeOf(&i)
		if keys[at] == nil {
			order = append(order, at)
		}
		keys[at] = append(keys[at], p.full(i.Entry.Key))
	}
	for _, at := range order {
		if n := len(keys[at]); n > 1 {
			all = append(all, newFinding(KindDuplicate, keys[at],
				fmt.Sprintf("%d entries say that they are at %s, and clients take them for one instance", n, at.addr),
				"have each server advertise an address of its own, or keep one instance id over restarts; what an earlier run left behind goes with its lease"))
		}
	}
	return all
}

func (p *patient) checkLayouts(s *survey.Service) []Finding {
	count := make(map[string]int)
	first := make(map[string]string)
	written := make(map[string]map[string]bool) // the layouts of each address
	for _, i := range s.Instances {
		name := s.LayoutName(i)
		if written[i.Addr] == nil {
			written[i.Addr] = make(map[string]bool)
		}
		written[i.Addr][name] = true
		if count[name]++; count[name] == 1 {
			first[name] = p.full(i.Entry.Key)
		}
	}
	partly := func(layouts map[string]bool) bool { return len(layouts) < len(count) }
	if !slices.ContainsFunc(slices.Collect(maps.Values(written)), partly) {
		return nil // the readers of each layout find every server
	}
	var parts, where []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%s (%d)", name, count[name]))
		where = append(where, first[name])
	}
	return []Finding{newFinding(KindMixedLayouts, where, fmt.Sprintf("%s is written in %d layouts: %s; clients of this project read them all, others may not",
		s.Key, len(count), strings.Join(parts, ", ")),
		"finish the migration, if this is one (docs/layouts.md); else give all servers of the service one layout")}
}

// checkPassword finds whether this command sends its own password where others can read it.
func (p *patient) checkPassword() []Finding {
	if len(p.exposed) == 0 {
		return nil
	}
	return []Finding{newFinding(KindPlaintext, []string{},
		fmt.Sprintf("the password of --user is sent without TLS to %s: whoever is on the way can read it", strings.Join(p.exposed, ", ")),
		"have etcd serve TLS, and give https:// in --endpoints or --cacert; services that use this etcd with a password send theirs in the same way")}
}
