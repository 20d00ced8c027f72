package harness

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// handsOver is how soon the candidate of a server that has left is gone, and how soon the next then leads.
	handsOver = 500 * time.Millisecond
)

// lookAtCandidate judges what etcd has of a server's candidate, where nothing is on the server's way to etcd.
func (s *server) lookAtCandidate(now sight, wrong lasting, lacks, full bool) {
	own := s.stands(now.from)
	hands := handsOver + trips*s.w.line()
	leaves := hands
	if now.flaps {
		leaves += spacing
	}
	if wrong.longer(leaves, "the candidate is left", !now.in && len(own) > 0 && !full) {
		s.w.Report(check.HandedOver, "%s has left %v ago, and etcd has its candidates %v", now.id, leaves, own)
	}
	first, ok := s.w.FirstCandidate()
	next := ok && slices.Contains(own, first) && now.holds(first.Lease) && now.in && !lacks && !full
	if wrong.longer(hands, "the first candidate does not lead", next && now.candidate.leadsWith() == 0) {
		s.w.Report(check.HandedOver, "%s has the first candidate for %v, and does not lead", now.id, hands)
	}
}

// secure reports whether nothing since a time is a reason for the life that dials from a host to lead no longer, or to make way.
func (s *server) secure(from string, since time.Time) bool {
	at := since.Sub(s.w.Began)
	live, _ := s.w.Etcd.Get(acme.ConfigKey)
	drained, depends := acme.DrainOf(live.Value)
	return s.servesSince(since) && len(drained) == 0 && !depends && !schedule.BadConfig(live.Value) && !s.w.configured(since) &&
		!s.w.BarredSince(s.index, at+record.Aftermath) && !s.w.Full(at) && !s.w.Pardoned() && s.untouched(from, since)
}

// configured reports whether the live config has changed since a time.
func (w *world) configured(since time.Time) bool {
	return slices.ContainsFunc(w.Since(since), func(c etcd.Change) bool { return c.Key == acme.ConfigKey })
}

// lookForLeader reports that nobody has led for a while, though somebody could.
func (t *trial) lookForLeader(wrong lasting) {
	hinders, blind := t.hinders()
	nobody := !hinders && !slices.ContainsFunc(t.election.standing(), func(c *candidate) bool { return c.leadsWith() != 0 }) &&
		slices.ContainsFunc(t.all(), func(s *server) bool {
			now := s.sight()
			return s.elects() && now.registry != nil && now.in && s.lacks(acme.ShopKey) == "" && !t.Barred(s.index)
		})
	what := fmt.Sprint("nobody leads since ", t.election.last())
	maps.DeleteFunc(wrong, func(other string, _ time.Time) bool { return other != what })
	// If a server that stood last was killed, its candidate may be the next that has to expire.
	// What it sent before may renew that lease yet.
	withoutLeader := t.Plan.LeaseTTL() + t.underWay() + keptWithin
	if wrong.longer(withoutLeader, what, nobody && !t.Etcd.Full()) {
		why := ""
		if blind != "" {
			why = fmt.Sprintf(", the first of %s, which may not read them", blind)
		}
		t.Report(check.Leaderless, "nobody has led for %v: etcd has the candidates %v%s", withoutLeader, t.Etcd.Entries(acme.Candidates), why)
	}
}

// underWay returns how long a request may have been under way to etcd until now.
func (t *trial) underWay() (longest time.Duration) {
	for _, s := range t.Plan.Steps {
		switch {
		case s.At >= t.Now():
		case s.Kind == schedule.RequestsLate:
			longest = max(longest, s.Milliseconds())
		case s.Kind == schedule.StalledFromEtcd, s.Kind == schedule.StalledFromMember: // it arrives when that ends
			longest = max(longest, s.For)
		}
	}
	return longest
}

// givesWay is how long a drained leader may lead on while another stands that is not drained.
const givesWay = 3 * time.Second

// lookForDrained reports a leader that the live config drains, and that leads on though another stands.
func (t *trial) lookForDrained(wrong lasting) {
	names := t.Drained()
	if len(names) == 0 {
		wrong.forget()
		return
	}
	live, _ := t.Etcd.Get(acme.ConfigKey)
	var leads *server
	others := false
	for _, s := range t.all() {
		now := s.sight()
		free := s.elects() && now.registry != nil && now.in && !t.Barred(s.index) && !t.Refused(s.index, schedule.ReadConfig)
		switch drained := t.drained(names, s.addr); {
		case drained && free && now.candidate.leadsWith() != 0:
			leads = s
		case !drained && free && s.lacks(acme.ShopKey) == "" && len(s.stands(now.from)) > 0:
			others = true
		}
	}
	bound := givesWay + trips*t.line()
	for _, s := range t.all() {
		if wrong.longer(bound, s.id+" is drained by "+live.Value, leads == s && others && !t.Etcd.Full() && !schedule.BadConfig(live.Value)) {
			t.Report(check.HandedOver, "%s is drained, and has led on for %v though another stands", s.id, bound)
		}
	}
}

// hinders reports whether the first candidate is that of a process that may be kept from learning that it leads, and renews its
// lease all the same. One that may not read the candidates does not stand: blind is its name.
func (t *trial) hinders() (hinders bool, blind string) {
	first, _ := t.FirstCandidate()
	for _, s := range t.servers {
		_, from := s.current()
		if !slices.Contains(t.LeasesLeft(from), first.Lease) {
			continue
		}
		if t.Refused(s.index, schedule.ReadVotes) {
			return t.Hampered(s.index), s.name()
		}
		return t.Barred(s.index), ""
	}
	return false, ""
}

// wrongLeader describes how candidates and leaders differ from what they should be in the end: each server that stands has a
// candidate, unless it is drained and another stands that is not, and one of those leads.
func (t *trial) wrongLeader() string {
	var wrong, lead []string
	has := t.Etcd.Entries(acme.Candidates)
	live, _ := t.Etcd.Get(acme.ConfigKey)
	names, depends := acme.DrainOf(live.Value) // where callers do not follow the drain, for it leaves too few, none gives way
	n, stand, undrained := 0, 0, 0
	led := false // by one that is drained
	for _, s := range t.all() {
		if !s.elects() || !s.in {
			continue
		}
		n++
		drained := t.drained(names, s.addr)
		if !drained {
			undrained++
		}
		if len(s.stands(s.from)) > 0 {
			stand++
		} else if !drained && !schedule.BadConfig(live.Value) {
			wrong = append(wrong, s.id+" has no candidate")
		}
		if s.candidate.leadsWith() != 0 {
			lead, led = append(lead, s.id), drained && !depends
		}
	}
	if len(has) != stand {
		wrong = append(wrong, fmt.Sprintf("%d of %d servers stand, and etcd has the candidates %v", stand, n, has))
	}
	if led && undrained > 0 {
		wrong = append(wrong, fmt.Sprintf("%v is drained and leads, and %d others are not drained", lead, undrained))
	}
	if len(lead) != min(n, 1) {
		wrong = append(wrong, fmt.Sprintf("of %d servers that stand %v lead", n, lead))
	}
	return strings.Join(wrong, "; ")
}
