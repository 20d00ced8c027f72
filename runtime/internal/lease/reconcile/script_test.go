package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// script drives the core of a session, on a model of etcd and in virtual time,
// by statements such as "have a b; pause a".
type script struct {
	t          *testing.T
	now, start time.Time
	etcd       *model
	core       *Core
	entries    map[string]*Entry
	op         Op       // the call that the statement "next" began
	past       []*model // backups
	log        []string
	calls      []string // the calls of the session, in the form of TestCalls' rows

	// returns the fate of the next write or revocation; a revocation is always
	// applied
	fail func() fate
}

func newScript(t *testing.T) *script {
	now := time.Unix(1e9, 0)

	return &script{
		t:       t,
		now:     now,
		start:   now,
		etcd:    newModel(),
		core:    New(func(d time.Duration) time.Duration { return d }),
		entries: make(map[string]*Entry),
		fail:    func() fate { return answered },
	}
}

// run lets the session make calls for d of virtual time.
func (s *script) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.elapse()

		o, d := s.core.Next(s.now)
		if o == nil {
			s.now = s.now.Add(min(d, end.Sub(s.now), 100*time.Millisecond))
			continue
		}

		s.calls = append(s.calls, describe(o))
		s.call(o, d)
		s.now = s.now.Add(time.Millisecond)
	}

	s.elapse()
}

// elapse ends expired leases, and makes the renewals that are due.
func (s *script) elapse() {
	s.etcd.expire(s.now)
	s.etcd.renew(s.now, s.core)
}

// call applies a call of the session to the model, and passes the outcome to
// the core.
func (s *script) call(o Op, timeout time.Duration) {
	f := answered
	a := Answer{}

	switch o := o.(type) {
	case writeOp:
		f = s.fail()
	case RevokeOp:
		if _, ok := s.etcd.leases[o.Lease]; ok && s.fail() == unanswered {
			f = unanswered
		}
	}

	if s.etcd.down {
		f = lost
	}

	if f == answered || f == unanswered {
		a = s.etcd.do(o, s.now)
	}

	s.log = append(s.log, fmt.Sprintf("%8.3f rev %d: %s, fate %d: %v %v",
		s.now.Sub(s.start).Seconds(), s.etcd.rev, describe(o), f, a.Made, a.Err))

	if _, revokes := o.(RevokeOp); revokes && f != answered {
		return // the session does not wait for it
	}

	if f != answered {
		s.now = s.now.Add(timeout)
		a = Answer{Err: context.DeadlineExceeded}
	}

	s.core.OnAnswer(s.now, o, a)
}

// add adds an entry for each key, in a layout with room for a mark.
func (s *script) add(keys ...string) {
	s.t.Helper()

	for _, key := range keys {
		s.items(key, item(key, "v"))
	}
}

func (s *script) items(name string, items []Item) {
	s.t.Helper()
	s.entries[name] = s.core.Add(s.now, nobody{}, items, false)
}

// have adds entries, waits until they are registered, and clears the list of
// calls.
func (s *script) have(keys ...string) {
	s.t.Helper()

	s.add(keys...)
	s.settle()

	for _, key := range keys {
		s.state(key, Registered)
	}

	s.calls = nil
}

// settle lets the session make the calls that are due: 20 ms suffice for all.
func (s *script) settle() {
	s.run(20 * time.Millisecond)
}

func (s *script) want(key string, w desired) {
	s.core.setDesired(s.now, s.entries[key], w)
}

func (s *script) state(key string, want State) {
	s.t.Helper()

	if e := s.entries[key]; e.state != want {
		s.t.Errorf("%s is %s (%v), want %s", key, e.state, s.core.errOf(s.now, e), want)
	}
}

// play runs statements, which semicolons separate. Each is a verb and its
// arguments.
func (s *script) play(statements string) {
	s.t.Helper()

	for statement := range strings.SplitSeq(statements, "; ") {
		verb, arg, _ := strings.Cut(statement, " ")
		n, _ := strconv.Atoi(arg)

		switch {
		case sessionVerbs[verb] != nil:
			sessionVerbs[verb](s, clientv3.LeaseID(n))
		case verb == "have":
			s.have(strings.Fields(arg)...)

		case verb == "run":
			d, err := time.ParseDuration(arg)
			if err != nil {
				s.t.Fatal(err)
			}

			s.run(d)

		case verb == "fate": // of the next write: 1 is lost, and 2 is applied without an answer
			s.fail = func() fate {
				s.fail = func() fate { return answered }
				return fate(n)
			}

		case keyVerbs[verb] != nil:
			for _, key := range strings.Fields(arg) {
				key, value, _ := strings.Cut(key, "=")
				keyVerbs[verb](s, key, value)
			}

		default:
			s.t.Fatalf("unknown verb in %q", statement)
		}
	}
}

// keyVerbs are the verbs whose arguments are keys, each with or without a
// value, as in "update a=w".
var keyVerbs = map[string]func(s *script, key, value string){
	"add": func(s *script, key, _ string) { s.add(key) },
	// another process puts the key
	"another": func(s *script, key, _ string) { s.etcd.put(key, "x", theirs) },
	"put":     func(s *script, key, value string) { s.etcd.put(key, value, 1) },
	// someone puts the key without a lease
	"orphan": func(s *script, key, _ string) { s.etcd.put(key, "x", 0) },
	"delete": func(s *script, key, _ string) { s.etcd.remove(key) },
	"event":  func(s *script, key, _ string) { s.core.OnWatch(s.now, key, nil, s.core.revision) },
	"update": func(s *script, key, value string) {
		s.core.Update(s.now, s.entries[key], item(key, value))
	},
	"pause":  func(s *script, key, _ string) { s.want(key, paused) },
	"resume": func(s *script, key, _ string) { s.want(key, present) },
	"drop":   func(s *script, key, _ string) { s.want(key, gone) },
	// its layout has no room for a mark
	"unmark": func(s *script, key, _ string) { s.entries[key].items[0].Leaving = "" },
	"hide":   func(s *script, key, _ string) { flip(s.etcd.unreadable, key) },
	"forbid": func(s *script, key, _ string) { s.etcd.unwritable[key] = true },
	"two": func(s *script, key, _ string) {
		s.items(key, append(item(key, "v"), item(key+"2", "v")...))
	},
	"plus-named": func(s *script, key, _ string) { s.items(key, plusNamed(key, "v")) },
	"named":      func(s *script, key, _ string) { s.items(key, named(key, "v")) },
	"paused": func(s *script, key, _ string) {
		s.entries[key] = s.core.Add(s.now, nobody{}, item(key, "v"), true)
	},
}

// sessionVerbs are the verbs without an argument, or with a number, which most
// often is a lease id.
var sessionVerbs = map[string]func(s *script, id clientv3.LeaseID){
	"settle": func(s *script, _ clientv3.LeaseID) { s.settle() },
	// clears the list of calls
	"forget": func(s *script, _ clientv3.LeaseID) {
		s.settle()
		s.calls = nil
	},
	"close":      func(s *script, _ clientv3.LeaseID) { s.core.Close(s.now) },
	"check-soon": func(s *script, _ clientv3.LeaseID) { s.core.CheckSoon(s.now) },
	"slept":      func(s *script, _ clientv3.LeaseID) { s.core.Waited(s.now, time.Minute) },
	"watched":    func(s *script, _ clientv3.LeaseID) { s.core.check.watched = true },
	"full":       func(s *script, _ clientv3.LeaseID) { s.etcd.full = !s.etcd.full },
	"busy":       func(s *script, _ clientv3.LeaseID) { s.etcd.busy = !s.etcd.busy },
	"failing":    func(s *script, _ clientv3.LeaseID) { s.etcd.failing = true },
	"proxied":    func(s *script, _ clientv3.LeaseID) { s.etcd.proxied = true },
	"twice":      func(s *script, _ clientv3.LeaseID) { s.etcd.twice = true },
	"large":      func(s *script, _ clientv3.LeaseID) { s.etcd.large = true },
	"down":       func(s *script, _ clientv3.LeaseID) { s.etcd.down = true },
	"backup":     func(s *script, _ clientv3.LeaseID) { s.past = append(s.past, s.etcd.clone()) },
	"restore": func(s *script, _ clientv3.LeaseID) {
		s.etcd.down = false
		s.etcd.restore(s.now, s.past[len(s.past)-1])
	},
	// other clients write 1000 times
	"written": func(s *script, _ clientv3.LeaseID) { s.etcd.rev += 1000 },
	// as if etcd had been restored
	"ahead": func(s *script, _ clientv3.LeaseID) { s.core.revision += 100 },
	"renewed-behind": func(s *script, id clientv3.LeaseID) {
		s.core.OnRenewal(s.now, id, ttl, 1)
	},
	"revoked-ahead": func(s *script, _ clientv3.LeaseID) {
		s.core.OnAnswer(s.now, RevokeOp{}, Answer{Revision: 1000})
	},
	"later": func(s *script, seconds clientv3.LeaseID) {
		s.now = s.now.Add(time.Duration(seconds) * time.Second)
	},
	"failed": func(s *script, _ clientv3.LeaseID) {
		s.core.failed(s.now, errors.New("no answer"))
	},
	"refresh": func(s *script, _ clientv3.LeaseID) { s.core.refresh(s.now) },
	"end":     func(s *script, _ clientv3.LeaseID) { s.core.End(s.now) },
	"lease": func(s *script, id clientv3.LeaseID) {
		s.etcd.leases[id] = s.now.Add(ttl)
	},
	"revoke":  func(s *script, id clientv3.LeaseID) { s.etcd.revoke(id) },
	"poison":  func(s *script, id clientv3.LeaseID) { s.etcd.poisoned[id] = true },
	"granted": func(s *script, id clientv3.LeaseID) { s.core.onGrant(s.now, id, ttl) },
	"ended": func(s *script, id clientv3.LeaseID) {
		s.core.replaceLease(errors.New("ended"))
	},
	"lost": func(s *script, id clientv3.LeaseID) {
		s.core.onLeaseLost(s.now, id, errors.New("not found"))
	},
	"renewal-unknown": func(s *script, id clientv3.LeaseID) {
		s.core.OnRenewalFailed(s.now, id, rpctypes.ErrLeaseNotFound)
	},
	"renewal-denied": func(s *script, id clientv3.LeaseID) {
		s.core.OnRenewalFailed(s.now, id, rpctypes.ErrPermissionDenied)
	},
	"renewal-unanswered": func(s *script, id clientv3.LeaseID) {
		s.core.OnRenewalFailed(s.now, id, rpctypes.ErrTimeout)
	},
	"fault-elsewhere": func(s *script, _ clientv3.LeaseID) {
		s.core.moves.at = s.now.Add(time.Minute)
	},
	"answered": func(s *script, _ clientv3.LeaseID) { s.call(s.op, 0) },
	"next":     func(s *script, _ clientv3.LeaseID) { s.op, _ = s.core.Next(s.now) },
	"timeout": func(s *script, _ clientv3.LeaseID) {
		s.core.onWriteFailed(s.now, s.op.(writeOp).steps, rpctypes.ErrTimeout)
	},
}
