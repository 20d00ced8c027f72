package leader

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// An instance that may write candidates and not read them does not stand, so that others lead, until it may.
func TestE3_WhoCannotReadDoesNotStand(t *testing.T) {
	t.Parallel()
	user := func(name string, read bool) etcdtest.User {
		return etcdtest.User{Name: name, Password: "secret", Permissions: []etcdtest.Permission{
			etcdtest.ReadWrite(entries), {Prefix: candidates, Write: true, Read: read}}}
	}
	etcd := etcdtest.Start(t, etcdtest.WithAuth("root", user("blind", false), user("seeing", true)))
	desc := calm(under(leaderpb.Counter_EtcdServiceDesc.Key, nil))
	blind := announced(t, registryAs(t, etcd, "blind"), desc)
	kit.Eventually(t, soon, "its status to say that it does not stand", func() bool {
		err := blind.Status()[0].Err
		return err != nil && strings.Contains(err.Error(), "does not stand for election")
	})
	seeing := announced(t, registryAs(t, etcd, "seeing"), desc)
	kit.Eventually(t, soon, "the other leads", leader.Of(seeing, desc).Holds)

	_, err := etcd.Admin().RoleGrantPermission(kit.Bounded(t, soon), "blind", candidates, strings.TrimSuffix(candidates, "/")+"0", clientv3.PermissionType(clientv3.PermReadWrite))
	must(t, err)
	kit.Eventually(t, soon, "its status to be well", func() bool { return blind.Status()[0].Err == nil })
	must(t, seeing.Withdraw(kit.Bounded(t, soon)))
	kit.Eventually(t, soon, "the first leads, which may", leader.Of(blind, desc).Holds)
}

// Whatever else is under the prefix of the candidates, the only one leads.
func TestE7_OthersKeysStopNobody(t *testing.T) {
	for name, stray := range map[string]struct {
		n, size int
	}{"many": {2000, 1}, "large": {12, 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			value := strings.Repeat("x", stray.size)
			lease, err := etcd.Admin().Grant(t.Context(), 600)
			must(t, err)
			var puts []clientv3.Op
			for i := range stray.n {
				key := fmt.Sprintf("%s%s%c%d", g.namespace, candidates, "!~"[i%2], i) // before and behind any candidate
				puts = append(puts, clientv3.OpPut(key, value))
				if stray.size > 1 { // it seems to be a candidate
					puts[len(puts)-1] = clientv3.OpPut(key, value, clientv3.WithLease(lease.ID))
				}
				if len(puts)*stray.size >= 100 || i == stray.n-1 {
					_, err := etcd.Admin().Txn(t.Context()).Then(puts...).Commit()
					must(t, err)
					puts = nil
				}
			}
			a := g.start("a")
			kit.Eventually(t, soon, "it to lead", a.leads.Holds)
		})
	}
}

// A leader that is drained leads no more while another one can, and callers follow.
func TestE9_ADrainedLeaderResigns(t *testing.T) {
	g := newGroup(t)
	a, b := g.start("a"), g.start("b")
	client := g.client()
	if who := g.leader(client); who != "a" {
		t.Fatalf("%s leads", who)
	}
	drain := func(names string) { g.configure(`{"loadBalancingConfig":[{"etcd":{"drain":[` + names + `]}}]}`) }
	drain(`"a"`)
	kit.Eventually(t, soon, "b to lead", func() bool { return b.leads.Holds() && g.leader(client) == "b" })
	for range 20 {
		if who := g.leader(client); who != "b" {
			t.Fatalf("%s answers", who)
		}
	}
	if status := a.server.Status()[0]; status.State != runtime.StateRegistered || status.Err != nil || g.logs.Count("drains it") != 1 {
		t.Errorf("the status of a is %+v, and the log %v", status, g.logs.Lines())
	}
	drain(`"a", "` + b.addr + `"`) // b alone is left, so it stays
	kit.Eventually(t, soon, "calls to go on", func() bool { return g.leader(client) == "b" })
	must(t, b.server.Withdraw(kit.Bounded(t, soon)))
	kit.Eventually(t, soon, "a to lead, which is the only one", func() bool { return g.leader(client) == "a" })
	b.announce()
	drain(`"a"`)
	kit.Eventually(t, soon, "b to lead again", func() bool { return g.leader(client) == "b" })
	_, err := etcd.Admin().Delete(t.Context(), g.namespace+"_grpc_config/"+entries)
	must(t, err)
	kit.Eventually(t, soon, "a to stand", func() bool { return len(g.candidates()) == 2 })
	if n := g.logs.Count("etcd registration lost"); n > 0 {
		t.Errorf("%d losses are told of, and no lease was late: %v", n, g.logs.Lines())
	}
}

// Leaders that follow one another never have one token.
func TestTokensDiffer(t *testing.T) {
	const n = 20
	g := newGroup(t)
	registry := g.registry(&wire{})
	var terms atomic.Int64
	seen, repeated := make(map[int64]string), 0
	servers := []*instance{g.start("a", on(registry)), g.start("b", on(registry)), g.start("c", on(g.registry(&wire{})))}
	began := time.Now()
	for terms.Load() < n {
		var first *instance
		kit.Eventually(t, soon, "one to lead", func() bool {
			for _, s := range servers {
				if s.leads.Holds() {
					first = s
				}
			}
			return first != nil
		})
		token, ok := first.leads.Token()
		if !ok {
			continue
		}
		if terms.Add(1); seen[token] != "" {
			repeated++
			t.Errorf("%s leads with the token %d, which %s had", first.name, token, seen[token])
		}
		seen[token] = first.name
		must(t, first.server.Withdraw(kit.Bounded(t, soon)))
		first.announce()
	}
	t.Logf("%d leaderships in %v, %d tokens repeated", n, time.Since(began), repeated)
}
