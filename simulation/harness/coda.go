package harness

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// promptly is how soon all is as it should be after one thing has happened to a world that is calm.
const promptly = 4 * time.Second

// coda has one thing after another happen to a world without faults. What the faults have spoilt shows there.
func (t *trial) coda(ctx context.Context) {
	if !t.calmSince(time.Now()) {
		return
	}
	for _, one := range t.ordinary(ctx) {
		t.note("coda: %s", one.what)
		one.do()
		bound := promptly + one.bound + 2*trips*t.line()
		for _, s := range t.servers {
			bound += time.Duration(s.spec.Unready) * time.Millisecond
		}
		if t.other != nil {
			bound += within // connections home may wait before they are tried again
		}
		if !t.settled(ctx, bound, fmt.Sprintf("%v after %s", bound, one.what)) {
			return
		}
		t.setCalm(true)
		t.callNewer(ctx)
		time.Sleep(time.Second) // for calls
	}
}

// thing is an ordinary thing, and how much longer than usual all may take to be as it should be after it.
type thing struct {
	what  string
	do    func()
	bound time.Duration
}

func (t *trial) ordinary(ctx context.Context) []thing {
	last := len(t.servers) - 1
	return []thing{
		{"the entries were deleted", t.deleteAll, grace}, // those of writers stay away
		{"a lease was revoked", func() { // two may believe that they lead
			t.setCalm(false)
			faults[schedule.LeaseRevoked](t, ctx, schedule.Step{})
		}, 0},
		{"a server had paused", func() { t.servers[0].pause(ctx, schedule.Step{For: 3 * time.Second}) }, 0},
		{"another had given up its registrations", func() { t.servers[last].pause(ctx, schedule.Step{For: 3 * time.Second, Text: schedule.ForGood}) }, 0},
		{"a server had restarted", func() {
			t.servers[0].stop(ctx)
			t.startAgain(ctx, schedule.Step{})
		}, 0},
		{"the leader was drained", t.drainLeader, 0},
		{"nobody was drained any more", func() { t.operated(t.etcd.Delete(acme.ConfigKey)) }, 0},
		{"a server was killed, and came back elsewhere", func() {
			t.servers[last].kill()
			t.startAgain(ctx, schedule.Step{Who: last, N: 1})
		}, t.plan.LeaseTTL()},
		{"etcd was compacted", func() { t.operated(t.etcd.Compact()) }, 0},
	}
}

// deleteAll deletes all entries at once. Callers hold them, and their instances are none.
func (t *trial) deleteAll() {
	t.operated(t.etcd.DeletePrefix(acme.ShopKey + "/"))
	time.Sleep(2*t.line() + 100*time.Millisecond)
	for _, c := range t.callers {
		had, held := t.entries().Registered(), keyStatus(c.registry, acme.ShopKey).Held // one that has not heard yet holds none
		bounded, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		all, err := c.clients.instances.All(bounded)
		cancel()
		has := append(had, t.entries().Registered()...)
		for _, i := range all {
			if err == nil && held > 0 && !slices.Contains(has, i.Addr) {
				t.report(check.Listed, "%s lists %s, which it only holds", c.name(), i.Addr)
			}
		}
	}
}

// callNewer has callers call a method that not all serve, where each entry says what is served: none asks one that does not.
func (t *trial) callNewer(ctx context.Context) {
	all, newer := true, false
	for _, e := range t.etcd.Entries(acme.ShopKey + "/") {
		all, newer = all && strings.Contains(e.Value, acme.MethodsName), newer || strings.Contains(e.Value, "WhoNewer")
	}
	for _, c := range t.callers {
		for range 2 * len(t.servers) {
			if !all || !newer || !c.plain() {
				return
			}
			if _, err := acme.Ask(ctx, c.clients.shop, acme.WhoNewer); status.Code(err) == codes.Unimplemented {
				t.report(check.Unserved, "%s: %v", c.name(), err)
			}
		}
	}
}

// drainLeader has a live config drain the leader.
func (t *trial) drainLeader() {
	leader := t.election.leader()
	for _, s := range t.all() {
		if s.candidate == leader && leader != nil {
			t.put(acme.ConfigKey, schedule.Drain(cmp.Or(s.seen().Name, s.addr)), acme.NoLease)
		}
	}
}
