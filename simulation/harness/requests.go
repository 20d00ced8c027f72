package harness

import (
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// rule sets the verdict on requests of one process to etcd.
type rule struct {
	who     int
	method  string // a method, or schedule.AnyWrite or AnyMethod
	verdict etcd.Verdict
}

// addRule adds a rule until the returned function is called.
func (w *world) addRule(who int, method string, verdict etcd.Verdict) (remove func()) {
	added := &rule{who, method, verdict}
	w.mu.Lock()
	defer w.mu.Unlock()

	w.rules = append(w.rules, added)

	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()

		w.rules = slices.DeleteFunc(w.rules, func(r *rule) bool { return r == added })
	}
}

// repeated holds the methods that etcd's client calls again by itself while
// etcd is unavailable. The client repeats a request every 25 ms, up to a
// hundred times, and a watch about every 100 ms on each stream.
var repeated = []string{"Range", "LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "Watch"}

// judge decides the verdict on a request to etcd, and counts the request.
func (w *world) judge(c etcd.Call) (verdict etcd.Verdict) {
	who := w.schedule.ProcessAt(c.Client)
	w.note("%s asks member %d: %s %q", w.schedule.Name(who), c.Member, c.Method, c.Keys)

	w.mu.Lock()

	i := slices.IndexFunc(w.rules, func(r *rule) bool {
		matches := r.method == schedule.AnyMethod ||
			r.method == schedule.AnyWrite && c.Write ||
			r.method == c.Method

		return r.who == who && matches
	})
	if i >= 0 {
		verdict = w.rules[i].verdict
	}

	w.mu.Unlock()

	w.count(who, func(counts *check.Counts) {
		switch {
		case verdict.Err != nil && slices.Contains(repeated, c.Method):
			counts.Repeated++
		case c.Method == "Authenticate":
			counts.Tokens++
		default:
			counts.Requests++
		}
	})

	return verdict
}

// refuse revokes a right of a process until the returned function is called.
func (w *world) refuse(who int, what string) (restore func()) {
	set := func(what string) {
		w.changing <- struct{}{}
		w.refused[who] = what
		<-w.changing
		w.setRights()
	}

	set(what)

	return func() { set("") }
}

// setRights sets the rights of all processes in etcd, if etcd requires
// passwords.
func (w *world) setRights() {
	if !w.schedule.Auth {
		return
	}

	w.changing <- struct{}{}
	defer func() { <-w.changing }()

	users := []etcd.User{{Name: "root", Password: password}}

	// the processes and the twins
	for i := range w.schedule.Processes() + len(w.schedule.Servers) {
		users = append(users, etcd.User{
			Name:     w.schedule.Name(i),
			Password: password,
			Rights:   rightsWithout(w.refused[i]),
		})
	}

	w.operated(w.etcd.Protect(users...))
}

const password = "secret"

// rightsWithout returns the rights of a process except the right named what.
func rightsWithout(what string) []etcd.Right {
	right := func(prefix string, read, write bool) etcd.Right {
		return etcd.Right{
			From:  prefix,
			To:    clientv3.GetPrefixRangeEnd(prefix),
			Read:  read,
			Write: write,
		}
	}

	read := what != schedule.Read
	readVotes := read && what != schedule.ReadVotes
	write := what != schedule.Write
	writeVotes := write && what != schedule.WriteVotes

	return []etcd.Right{
		right(fixtures.Prefix, read, write),
		right(fixtures.Leaders+fixtures.Prefix, readVotes, writeVotes),
		right(fixtures.Configs, what != schedule.ReadConfig, false),
	}
}
