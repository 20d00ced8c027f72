package harness

import (
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// rests is how long nobody calls in the end: by then connections are idle, and what only they needed is followed no more, which
// takes a minute.
const rests = idleTimeout + deadline + 70*time.Second

const (
	// candidateID is how long the ids of candidates are.
	candidateID = 26
	// heard is how soon all have heard of a change, and have done what it asks for.
	heard = 2 * time.Second
)

// forgotten is how many watches a process may have open without knowing: etcd's client forgets one whose context ends while it is
// being opened anew, until it hears of an event.
const forgotten = 8

// countWatches reports processes that have not ended watches: of several for one range all but one are to end, and of candidates
// those for calls that nobody has made for long.
func (t *trial) countWatches() {
	rested := t.Plan.Rests && !t.ResetSince(t.Began) // else what is forgotten may wait for revisions that are far ahead
	if rested {
		t.rest()
	}
	for _, p := range t.processes() {
		open := make(map[etcd.Watch]bool)
		twice := 0
		_, from := p.current()
		for _, w := range t.Etcd.Watches() {
			if w.Client != from {
				continue
			}
			if open[w] {
				twice++
			}
			open[w] = true
			if rested && p.index >= len(t.servers) && strings.HasPrefix(w.From, acme.Leaders) {
				t.Report(check.LeftBehind, "%s still watches %q, and has called nobody for %v", p.name(), w.From, rests)
			}
		}
		if twice > forgotten {
			t.Report(check.LeftBehind, "%s has %d watches that it has twice", p.name(), twice)
		}
	}
}

// rest has nobody call for a while, and ends it with an event for whoever watches the candidates. It begins with a reset of the
// callers' connections: etcd has watches for those that were lost unseen.
func (t *trial) rest() {
	for _, c := range t.callers {
		c.idle.Store(true)
		reset := schedule.Step{Kind: schedule.ResetFromEtcd, At: t.Now(), Who: c.index}
		t.Add(reset)
		t.resetFromEtcd(reset)
	}
	time.Sleep(rests)
	key := acme.Candidates + "/" + strings.Repeat("A", candidateID)
	t.put(key, acme.Added, acme.NoLease)
	time.Sleep(heard)
	t.Etcd.Delete(key)
	time.Sleep(heard)
}
