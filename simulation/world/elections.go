package world

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// polls is what the world keeps of elections. Guarded by the world's mu.
type polls struct {
	standing []*stander       // the lives that stand, in the order of their beginnings
	sat      time.Time        // when one of them last ended
	forced   time.Time        // when a candidate was last taken out of etcd by force
	store    *leader.Fence    // that all leaders write to
	created  map[string]int64 // by candidate's key: its token
}

func newPolls() polls { return polls{store: new(leader.Fence), created: make(map[string]int64)} }

// noteCandidate takes in a change of a candidate, and has the judge hear if its leader's function still runs when it goes. It must
// be called with mu held.
func (w *World) noteCandidate(c etcd.Change) {
	if !strings.HasPrefix(c.Key, candidates) {
		return
	}
	token := w.polls.created[c.Key]
	if !c.Delete {
		if token == 0 {
			w.polls.created[c.Key] = c.Revision
		}
		return
	}
	delete(w.polls.created, c.Key)
	for _, s := range w.polls.standing {
		if token != 0 && s.runs() == token && !w.pardonedNow() {
			w.judge.Report(c.At, check.Leads, "the candidate of %s is gone, and its function for the leader runs with the token %d", s.id, token)
		}
	}
}

// noteCandidates takes in all candidates after etcd was restored or wiped. It must be called with mu held.
func (w *World) noteCandidates(entries []etcd.Entry) {
	clear(w.polls.created)
	for _, e := range entries {
		w.polls.created[e.Key] = e.Create
	}
}

// stand notes that a life stands for election.
func (w *World) stand(s *stander) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polls.standing = append(w.polls.standing, s)
}

// sit notes that a life does not any more.
func (w *World) sit(s *stander) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polls.sat = time.Now()
	w.polls.standing = slices.DeleteFunc(w.polls.standing, func(other *stander) bool { return other == s })
}

// standers returns the lives that stand.
func (w *World) standers() []*stander {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.polls.standing)
}

// force notes that a lease is about to be revoked by force.
func (w *World) force(lease int64) {
	if slices.ContainsFunc(w.etcd.Entries(candidates), func(e etcd.Entry) bool { return e.Lease == lease }) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.polls.forced = time.Now()
	}
}

// pardoned reports whether two may believe that they lead: a candidate was taken out of etcd by force, and its owner has not
// had to renew its lease since, or etcd was restored or wiped, and not all have heard of it.
func (w *World) pardoned() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pardonedNow()
}

// pardonedNow is pardoned, with mu held.
func (w *World) pardonedNow() bool {
	forced := w.polls.forced
	return !forced.IsZero() && time.Since(forced) < ttl || w.lastReset().After(time.Now().Add(-heardOfReset))
}

// first returns the candidate that etcd has that was created first.
func (w *World) first() (first etcd.Entry, ok bool) {
	for _, e := range w.etcd.Entries(candidates) {
		if !ok || e.Create < first.Create {
			first, ok = e, true
		}
	}
	return first, ok
}

// lookAtLeaders reports lives that say that they lead when the first candidate in etcd is another's, or another says so, too.
// Others change while it looks, so only what a life says before and after counts.
func (w *World) lookAtLeaders() {
	if w.pardoned() {
		return
	}
	leads := make(map[*stander]int64)
	for _, s := range w.standers() {
		token := s.now()
		if token == 0 {
			continue
		}
		first, _ := w.first()
		if s.now() == token && first.Create != token && !w.pardoned() {
			w.report(check.Leads, "%s says that it leads with the token %d, and the first candidate in etcd is %+v", s.id, token, first)
		}
		leads[s] = token
	}
	for s, token := range leads {
		others := slices.DeleteFunc(w.standers(), func(other *stander) bool { return other == s || other.now() == 0 })
		if s.now() == token && len(others) > 0 && !w.pardoned() {
			w.report(check.Leads, "%s and %s say at the same time that they lead", s.id, others[0].id)
		}
	}
}

// lookForOthers reports a life whose function for the leader runs when that of another begins.
func (w *World) lookForOthers(begins *stander) {
	for _, s := range w.standers() {
		if token := s.runs(); s != begins && token != 0 && !w.pardoned() {
			w.report(check.Leads, "the leader's function runs on %s, and on %s with the token %d", begins.id, s.id, token)
		}
	}
}

// lookAtTerms reports lives whose function for the leader goes on when they no longer lead.
func (w *World) lookAtTerms() {
	for _, s := range w.standers() {
		token := s.runs()
		if token == 0 || s.now() == token {
			continue
		}
		time.Sleep(time.Nanosecond) // until what happens at this instant has happened
		if s.runs() == token && s.now() != token {
			w.report(check.Leads, "%s no longer leads with the token %d, and the context that Run gave has not ended", s.id, token)
		}
	}
}

// servesAs judges that a life serves a call that is for the leader with a token.
func (w *World) servesAs(s *stander, token int64) {
	w.lookAtLeaders()
	now := func(c etcd.Change) bool { return strings.HasPrefix(c.Key, candidates) }
	if s.now() != token && !slices.ContainsFunc(w.since(time.Now()), now) && !w.pardoned() {
		w.report(check.Guarded, "%s serves a call for the leader with the token %d, and has %d", s.id, token, s.now())
	}
}

// writeAs writes to the store with a token, and has the judge hear of it. While not all have heard that etcd was restored or
// wiped, the store is told to take any.
func (w *World) writeAs(s *stander, token int64) {
	restored := w.resetSince(time.Now().Add(-heardOfReset))
	before, taken := s.now(), true
	w.observe(func(j *check.Judge) {
		if restored {
			w.polls.store = new(leader.Fence)
			j.Restored()
			return
		}
		taken = w.polls.store.Admit(token) == nil
		j.Write(time.Now(), s.id, token, taken)
	})
	if !taken && before == token && s.now() == token && !w.pardoned() {
		w.report(check.Fenced, "the store has refused a write of %s, which leads with the token %d", s.id, token)
	}
}

// callLeader calls the shop's leader.
func (c *caller) callLeader(ctx context.Context, via clients, _ *rand.Rand) { c.askLeader(ctx, via) }

// askLeader calls the shop's leader. It returns the life that has answered, "" if none has.
func (c *caller) askLeader(ctx context.Context, via clients) (from string) {
	call := c.prepare(via.registry, "leader", shopKey, shopLead, "")
	call.Longest = c.w.longestWait(c.spec.Policy, call.Settled)
	ended := c.send(ctx, via.shop, call)
	if ctx.Err() == nil {
		steady := c.w.steady(c, call.Begin.Add(-promptly))
		c.w.observe(func(j *check.Judge) { j.LeaderCall(ended, steady) })
	}
	return ended.From
}

// steady returns the life that has led since a time, as far as a caller whose way to etcd was free all the time can know,
// "" if there is none. Callers find the leader by its entry: one that somebody deletes, or overwrites, leads all the same,
// and cannot put the entry back while it does not reach etcd.
func (w *World) steady(c *caller, since time.Time) string {
	at := since.Sub(w.began)
	changed := func(c etcd.Change) bool { return strings.HasPrefix(c.Key, candidates) }
	if at < 0 || w.faulty(c.index, at, time.Since(w.began), disturbAll, disturbOne) || w.onDeadWatch(c.index, time.Since(w.began)) ||
		slices.ContainsFunc(w.since(since), changed) || w.pardoned() {
		return ""
	}
	for _, s := range w.servers {
		now := s.sight()
		if now.stands != nil && now.stands.runs() != 0 && now.stands.began().Before(since) && s.untouched(now.from, since) {
			return now.id
		}
	}
	return ""
}

// untouched reports whether etcd has the entries of the shop of the server's life that dials from a host, and nobody else has
// changed them since a time.
func (s *server) untouched(from string, since time.Time) bool {
	keys := s.etcdKeys(shopKey, s.w.leasesLeft(from))
	return s.lacks(shopKey) == "" && !slices.ContainsFunc(s.w.since(since), func(c etcd.Change) bool {
		return c.Client != from && slices.Contains(keys, c.Key)
	})
}

const (
	// handsOver is how soon the candidate of a server that has left is gone, and how soon the next then leads.
	handsOver = 500 * time.Millisecond
	// withoutLeader is how long nobody may lead though somebody could, since a server that stood last ended: if it was killed,
	// its candidate may be the next that has to expire.
	withoutLeader = ttl + keptWithin
)

// lookAtCandidate judges what etcd has of a server's candidate, where nothing is on the server's way to etcd.
func (s *server) lookAtCandidate(now sight, wrong lasting, lacks, full bool) {
	own := slices.DeleteFunc(s.w.etcd.Entries(candidates), func(e etcd.Entry) bool {
		return !slices.Contains(s.w.leasesLeft(now.from), e.Lease)
	})
	leaves := handsOver
	if now.flaps {
		leaves += damping
	}
	if wrong.longer(leaves, "the candidate is left", !now.in && len(own) > 0 && !full) {
		s.w.report(check.HandedOver, "%s has left %v ago, and etcd has its candidates %v", now.id, leaves, own)
	}
	first, ok := s.w.first()
	next := ok && slices.Contains(own, first) && now.in && !lacks && !full
	if wrong.longer(handsOver, "the first candidate does not lead", next && now.stands.now() == 0) {
		s.w.report(check.HandedOver, "%s has the first candidate for %v, and does not lead", now.id, handsOver)
	}
}

// lookForLeader reports that nobody has led for a while, though somebody could.
func (w *World) lookForLeader(wrong lasting) {
	nobody := !slices.ContainsFunc(w.standers(), func(s *stander) bool { return s.now() != 0 }) &&
		!slices.ContainsFunc(w.servers, func(s *server) bool { return w.hampered(s.index) }) &&
		slices.ContainsFunc(w.servers, func(s *server) bool {
			now := s.sight()
			return s.elects() && now.registry != nil && now.in && s.lacks(shopKey) == ""
		})
	w.mu.Lock()
	what := fmt.Sprint("nobody leads since ", w.polls.sat)
	w.mu.Unlock()
	maps.DeleteFunc(wrong, func(other string, _ time.Time) bool { return other != what })
	if wrong.longer(withoutLeader, what, nobody && !w.etcd.Full()) {
		w.report(check.Leaderless, "nobody has led for %v: etcd has the candidates %v", withoutLeader, w.etcd.Entries(candidates))
	}
}

// wrongLeader describes how candidates and leaders differ from what they should be in the end: each server that stands has a
// candidate, and one leads.
func (w *World) wrongLeader() string {
	var wrong, lead []string
	has := w.etcd.Entries(candidates)
	n := 0
	for _, s := range w.servers {
		if !s.elects() || !s.in {
			continue
		}
		n++
		own := func(e etcd.Entry) bool { return slices.Contains(w.leasesLeft(s.from), e.Lease) }
		if !slices.ContainsFunc(has, own) {
			wrong = append(wrong, s.id+" has no candidate")
		}
		if s.stands.now() != 0 {
			lead = append(lead, s.id)
		}
	}
	if len(has) != n {
		wrong = append(wrong, fmt.Sprintf("%d servers stand, and etcd has the candidates %v", n, has))
	}
	if len(lead) != min(n, 1) {
		wrong = append(wrong, fmt.Sprintf("of %d servers that stand %v lead", n, lead))
	}
	return strings.Join(wrong, "; ")
}

// wrongLeaderCalls has each caller call the leader, and reports it if it does not reach it within a bound.
func (w *World) wrongLeaderCalls(ctx context.Context) {
	i := slices.IndexFunc(w.servers, func(s *server) bool { return s.stands.now() != 0 })
	if i < 0 {
		return // none stands, or settle has said so
	}
	for _, c := range w.callers {
		wrong := lastingly(func() string {
			if from := c.askLeader(ctx, c.clients); from != w.servers[i].id {
				return fmt.Sprintf("%s leads, and a call for the leader was answered by %q", w.servers[i].id, from)
			}
			return ""
		})
		if wrong != "" {
			w.report(check.Led, "%s: %s", c.name(), wrong)
		}
	}
}
