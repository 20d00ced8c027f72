package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// subject is an examined service, and the state that clients derive from it.
type subject struct {
	*examination
	*inventory.Service
	check *check // the check that runs

	// an address that means the same host to all callers; "" if there is none
	elsewhere string

	clients   *inventory.Service // the service merged, as clients see it
	hasConfig bool               // there is a live config at a valid key

	// the live config; nil if there is none, clients refuse it, or there is no
	// instance
	live *serviceconfig.Config

	refusal error           // why clients refuse the live config
	plan    *inventory.Plan // the instances that a client calls under live
}

func (p *examination) subject(s *inventory.Service) *subject {
	x := &subject{examination: p, Service: s, clients: s.Merged()}
	n := slices.IndexFunc(s.Instances, func(i inventory.Instance) bool {
		return !i.Leaving() && meaning(i.Addr) == ""
	})
	if n >= 0 {
		x.elsewhere = s.Instances[n].Addr
	}

	x.hasConfig = s.Config != nil && endpoint.CheckKey(s.Key) == nil
	if x.hasConfig {
		x.live, x.refusal = s.Live()
	}

	if len(s.Instances) == 0 {
		x.live = nil
	}

	x.plan = x.clients.Plan(x.live.Etcd(), "")

	return x
}

// check runs all checks.
func (p *examination) check() {
	p.zones = inventory.Count(inventory.Entries(p.services), "zone")

	for _, s := range p.services {
		x := p.subject(s)
		for _, c := range checks {
			if c.find != nil {
				x.check = &c
				c.find(x)
			}
		}
	}
}

// inUse reports whether a key has a service.
func (p *examination) inUse(key string) bool {
	at, found := slices.BinarySearchFunc(p.services, key,
		func(s *inventory.Service, key string) int { return strings.Compare(s.Key, key) })
	return found && p.services[at].InUse()
}

// badKey finds keys that clients refuse, and keys that are likely mistaken.
func (x *subject) badKey() {
	bare, doubled := strings.CutPrefix(x.Key, strings.TrimSuffix(x.Namespace, "/")+"/")

	// Without a service at the bare key, the doubled key may be intended.
	if doubled && x.Namespace != "" && x.InUse() && x.inUse(bare) {
		x.reportAs(Warning,
			"the key begins with the namespace, which is added to each key: clients with the key "+
				bare+" do not find this",
			"have its servers leave the namespace out of the key", x.Key)
	}

	strays := 0
	for _, i := range x.Instances {
		if x.inUse(i.Entry.Key) {
			strays++
			x.reportAs(Warning,
				fmt.Sprintf("clients of %s read only keys below it: the entry counts as an instance of %s",
					i.Entry.Key, x.Key),
				"if its server is of that service, have it register below the key",
				i.Entry.Key)
		}
	}

	for _, s := range x.services {
		switch {
		case !s.InUse() || strays == len(x.Instances):
		case s.Key < x.Key && strings.EqualFold(s.Key, x.Key):
			x.reportAs(Warning,
				fmt.Sprintf("the keys %s and %s differ only by case: clients of one do not find the instances of the other",
					s.Key, x.Key),
				"if they are one service, give its servers one key", s.Key, x.Key)

		case strings.HasPrefix(s.Key, x.Key+"/"):
			x.reportAs(Warning,
				"the key is nested under the key "+x.Key+
					": other frameworks' readers of that key take its instances for theirs",
				"rename one of them, such as acme/user-admin in place of acme/user/admin",
				s.Key)
		}
	}

	err := endpoint.CheckKey(x.Key)
	if err == nil {
		return
	}

	where := x.Key
	fix := "have its servers use another key: this one is refused by clients and when code is generated"

	if x.Config != nil && !x.InUse() {
		where = x.Config.Key
		fix =
			"no client can be given this key, so the live config for it has no effect: " +
				x.deleteCommand(where)
	}

	x.report(err.Error(), fix, where)
}

// empty finds services whose entries are all being withdrawn.
func (x *subject) empty() {
	n := len(x.Instances)
	if n > 0 && len(x.clients.Instances) == 0 {
		text := fmt.Sprintf("all %s are being withdrawn by their owners, so there is nothing to call",
			output.Counted(n, "entry"))
		x.report(text,
			"start a server; the entries of dead owners expire with their leases",
			x.Key+"/")
	}
}

// leader finds leaders that callers cannot reach.
func (x *subject) leader() {
	if len(x.Candidates) == 0 {
		return
	}

	first := x.Candidates[0]
	isCalled := func(i inventory.Instance) bool {
		return i.Instance == first.Instance && !i.Leaving()
	}
	if slices.ContainsFunc(x.Instances, isCalled) {
		return
	}

	fix := "if its server is dead, the candidate goes with its lease"
	if rest := x.leases[first.Lease].Remaining; rest > longWait {
		fix += fmt.Sprintf(", in %s, or by: %s",
			output.Seconds(rest), x.deleteCommand(first.Key))
	}

	fix += "; if it lives, its status and log say why it has no entry"
	problem := fmt.Sprintf("the first candidate for the leader of %s is %q, which has no entry that clients call, so every call for the leader waits and fails",
		x.Key, first.Instance)
	x.report(problem, fix, first.Key)
}

// location is the address of an instance, and the layout that it is written in.
type location struct {
	layout endpoint.Layout
	addr   string
}

func locationOf(i *inventory.Instance) location {
	return location{i.Layout, i.Addr}
}

// duplicates finds several entries of one layout with one address. One instance
// may write several layouts.
func (x *subject) duplicates() {
	keys := make(map[location][]string)
	for _, i := range x.Instances {
		lease := x.leases[i.Entry.Lease]
		if lease.notRenewed || lease.missedRenewal || i.Leaving() {
			continue // the entry of an earlier run
		}

		keys[locationOf(&i)] = append(keys[locationOf(&i)], i.Entry.Key)
	}

	for _, i := range x.Instances {
		if same := keys[locationOf(&i)]; len(same) > 1 && same[0] == i.Entry.Key {
			text := fmt.Sprintf("%d entries have the address %s, and clients treat them as one instance",
				len(same), i.Addr)
			x.report(text,
				"have each server advertise its own address, or keep one instance id over restarts; entries of an earlier run expire with their lease",
				same...)
		}
	}
}

// mixedLayouts finds services that use several layouts, and have servers
// without an entry in one of them. Readers of that layout miss these servers.
func (x *subject) mixedLayouts() {
	counts := make(map[string]int)   // of entries, by layout
	first := make(map[string]string) // the key of an entry, by layout
	addrs := make(map[string]bool)
	written := make(map[location]bool)

	for _, i := range x.Instances {
		layout := i.Layout.String()
		counts[layout]++
		first[layout] = cmp.Or(first[layout], i.Entry.Key)
		addrs[i.Addr] = true
		written[locationOf(&i)] = true
	}

	if len(written) != len(addrs)*len(counts) {
		problem := fmt.Sprintf("%s is written in %d layouts: %s; clients of this project read all of them, lease_suffix only if configured; other clients may not",
			x.Key, len(counts), inventory.Counted(counts))
		x.report(problem,
			"finish the migration, if this is one (docs/layouts.md); else give all servers of the service one layout",
			slices.Sorted(maps.Values(first))...)
	}
}

// disjointMethods finds servers of one key that share no method, and are not
// joined by servers that share methods with both. They are probably of several
// services.
func (x *subject) disjointMethods() {
	// the key of an entry for each set of servers that share methods
	sets := make(map[serviceconfig.MethodName]string)
	for _, i := range x.clients.Instances {
		for method := range inventory.DeclaredMethods(&i.Endpoint) {
			was := sets[method]
			sets[method] = i.Entry.Key

			if was == "" || was == i.Entry.Key {
				continue
			}

			for other, key := range sets {
				if key == was {
					sets[other] = i.Entry.Key
				}
			}
		}
	}

	where := slices.Compact(slices.Sorted(maps.Values(sets)))
	if len(where) > 1 {
		text := fmt.Sprintf("servers with the key %s serve %d sets of methods that have none in common",
			x.Key, len(where))
		x.report(text,
			"if they are of several services, give each service a key", where...)
	}
}

// deleteCommand returns the command that deletes a key, and who may run it.
func (x *subject) deleteCommand(key string) string {
	line := x.EtcdctlDel(x.full(key))
	if x.User != "" { // an operator's role does not permit it
		return "as root, or as a user with its server's role: " + line
	}

	return line
}

// mistypedZones finds instances whose zone is probably mistyped.
func (x *subject) mistypedZones() {
	for _, i := range x.clients.Instances {
		usual := x.usualZone(i.Zone)
		if i.Zone != "" && i.Zone != usual {
			problem := fmt.Sprintf("the zone %q (%s) is spelled almost as %q (%s): clients that prefer their own zone treat them as two",
				i.Zone, output.Counted(x.zones[i.Zone], "entry"),
				usual, output.Counted(x.zones[usual], "entry"))
			x.report(problem,
				"if they are one zone, give the servers the same name by runtime.WithZone; else --skip zone",
				i.Entry.Key)
		}
	}
}

// usualZone returns the most frequent zone that a zone is probably meant to be,
// or the zone itself.
func (p *examination) usualZone(zone string) (usual string) {
	lines := strings.NewReplacer("", "\n") // one character on each line
	for other, n := range p.zones {
		// The other zone must have several times as many entries: us-east1 of
		// one cloud is not us-east-1 of another.
		times := 4
		if strings.EqualFold(strings.TrimSpace(zone), strings.TrimSpace(other)) {
			times = 1
		}

		best := p.zones[usual]
		if times*p.zones[zone] > n || n < best || n == best && other <= usual {
			continue
		}

		diff := output.Diff(lines.Replace(zone), lines.Replace(other))
		if spelling(zone) == spelling(other) ||
			mistake.MatchString(strings.Join(diff, "")) {
			usual = other
		}
	}

	return usual
}

var (
	// notLetters matches a number, as its group, or the text between words and
	// numbers.
	notLetters = regexp.MustCompile(`(\pN+)|[^\pL\pN]+`)

	// mistake matches the diff of two zones, character by character, if they
	// differ by one letter: a letter in place of a digit, or a missing or
	// another letter in a word of at least four letters. The last letter of a
	// word does not count: numbers and last letters distinguish zones, as in
	// eu-1a and eu-2b.
	mistake = regexp.MustCompile(strings.ReplaceAll(`^  (  .)*(- \pL\+ \d|- \d\+ \pL|(  \pL){2}%  \pL|  \pL%(  \pL){2}|%(  \pL){3})(  .)*$`,
		"%", `(- \pL)?(\+ \pL)?`))
)

// spelling returns a zone without case, blanks and punctuation, but with its
// numbers apart: eu-1-1 becomes eu<1><1>, not eu<11>.
func spelling(zone string) string {
	return strings.ReplaceAll(notLetters.ReplaceAllString(strings.ToLower(zone), "<$1>"),
		"<>", "")
}
