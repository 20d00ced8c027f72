package harness

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// operated notes what an operator could not do: there was no space, or no quorum.
func (w *world) operated(err error) {
	if err != nil {
		w.note("an operator's request has failed: %v", err)
	}
}

// put puts a key as an operator.
func (t *trial) put(key, value string, lease int64) { t.operated(t.etcd.Put(key, value, lease)) }

// entriesOf returns the entries that name the address of a server.
func (t *trial) entriesOf(server int) []etcd.Entry {
	_, addr := t.servers[server].known()
	return slices.DeleteFunc(t.etcd.Entries(acme.Prefix), func(e etcd.Entry) bool { return acme.AddrIn(e.Value) != addr })
}

// onEntries does something to each entry that names the address of a server.
func onEntries(do func(*trial, etcd.Entry)) fault {
	return once(func(t *trial, s schedule.Step) {
		for _, e := range t.entriesOf(s.Who) {
			do(t, e)
		}
	})
}

func (t *trial) entryOverwritten(s schedule.Step) (end func()) {
	overwritten := t.entriesOf(s.Who)
	for _, e := range overwritten {
		t.put(e.Key, acme.Nobody, acme.NoLease)
	}
	return func() {
		for _, o := range overwritten {
			for _, e := range t.etcd.Entries(o.Key) {
				if e.Key == o.Key && acme.IsOperators(e) {
					t.operated(t.etcd.Delete(o.Key))
				}
			}
		}
	}
}

func (t *trial) revoke(e etcd.Entry) {
	t.operated(t.etcd.Revoke(e.Lease)) // it may be revoked already, for another entry of the server
}

func (t *trial) entryAdded(schedule.Step) (end func()) {
	t.put(acme.NobodyKey, acme.Nobody, acme.NoLease)
	return func() { t.operated(t.etcd.Delete(acme.NobodyKey)) }
}

// entryAddedBy has a process add an entry through its registry, and remove it after a time.
func (t *trial) entryAddedBy(ctx context.Context, p *process, lasts time.Duration) {
	there := func() bool {
		return slices.ContainsFunc(t.etcd.Entries(acme.ShopKey+"/"), func(e etcd.Entry) bool { return acme.AddrIn(e.Value) == acme.Added })
	}
	p.tell(ctx, "Add", func(r *runtime.Registry, ctx context.Context) error {
		return r.Add(ctx, acme.ShopKey, runtime.Endpoint{Addr: acme.Added})
	})
	time.Sleep(lasts)
	if there() {
		remove := func(r *runtime.Registry, ctx context.Context) error { return r.Remove(ctx, acme.ShopKey, acme.Added) }
		p.tell(ctx, "Remove", func(r *runtime.Registry, ctx context.Context) error {
			allow := t.requests.add(p.index, "Txn", etcd.Verdict{Err: rpctypes.ErrGRPCTimeout})
			defer allow()
			err := remove(r, ctx)
			if err == nil && there() {
				t.report(check.Returns, "etcd refuses a Remove of %s, which returned nil", p.name())
			}
			return err
		})
		p.tell(ctx, "Remove", remove)
	}
	t.undo()
}

// tell has the process change etcd by a call.
func (p *process) tell(ctx context.Context, what string, call func(*runtime.Registry, context.Context) error) {
	p.do(func() {
		registry := p.running()
		if registry == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		act := check.Act{What: what, Who: p.name(), Began: time.Now()}
		act.Err = call(registry, ctx)
		p.w.acted(ctx, contextOnly, act)
	})
}

// undo takes back what operators have put. Their steps have done so, but a backup may have brought it back.
func (t *trial) undo() {
	t.operated(t.etcd.Alarm(false))
	for _, key := range []string{acme.ShopKey, acme.UserKey} {
		for _, e := range t.etcd.Entries(key + "/") {
			if acme.IsOperators(e) {
				t.operated(t.etcd.Delete(e.Key))
			}
		}
	}
}
