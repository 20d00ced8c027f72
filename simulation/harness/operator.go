package harness

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// operated records the error of an operator, such as no space, no quorum, or an unknown lease.
func (w *world) operated(err error) {
	if err != nil {
		w.note("an operator's request has failed: %v", err)
	}
}

// put puts a key as an operator.
func (w *world) put(key, value string, lease int64) { w.operated(w.etcd.Put(key, value, lease)) }

// add adds an entry as an operator, until the returned function is called.
func (w *world) add(key, value string) (remove func()) {
	w.put(key, value, fixtures.NoLease)
	return func() { w.operated(w.etcd.Delete(key)) }
}

// entriesOf returns the entries that name the address of a server.
func (w *world) entriesOf(server int) []etcd.Entry {
	addr := w.servers[server].seen().Addr
	return slices.DeleteFunc(w.etcd.Entries(fixtures.Prefix), func(e etcd.Entry) bool { return fixtures.AddrIn(e.Value) != addr })
}

// onEntries calls do for each entry with the address of a server.
func onEntries(do func(*world, etcd.Entry)) fault {
	return once(func(w *world, s schedule.Step) {
		for _, e := range w.entriesOf(s.Who) {
			do(w, e)
		}
	})
}

// revoke revokes the lease of an entry.
func (w *world) revoke(e etcd.Entry) {
	w.record(func(h *check.History) { h.Forced = append(h.Forced, time.Now()) })
	w.operated(w.etcd.Revoke(e.Lease))
}

func (w *world) entryOverwritten(s schedule.Step) (end func()) {
	overwritten := w.entriesOf(s.Who)
	for _, e := range overwritten {
		w.put(e.Key, fixtures.Nobody, fixtures.NoLease)
	}
	return func() {
		for _, o := range overwritten {
			w.deleteOperators(o.Key)
		}
	}
}

// deleteOperators deletes the entries of operators whose keys begin with prefix.
func (w *world) deleteOperators(prefix string) {
	for _, e := range w.etcd.Entries(prefix) {
		if fixtures.IsOperators(e) {
			w.operated(w.etcd.Delete(e.Key))
		}
	}
}

// undo clears the alarm and deletes the entries of operators, which a restored backup may have brought back.
func (w *world) undo() {
	w.operated(w.etcd.Alarm(false))
	w.deleteOperators(fixtures.ShopKey + "/")
	w.deleteOperators(fixtures.UserKey + "/")
}

// entryAddedBy makes a process add an entry through its registry, and returns a function that removes the entry.
func (w *world) entryAddedBy(s schedule.Step) (end func()) {
	p := w.processes[s.Who]
	there := func() bool {
		return slices.ContainsFunc(w.etcd.Entries(fixtures.ShopKey+"/"), func(e etcd.Entry) bool { return fixtures.AddrIn(e.Value) == fixtures.Added })
	}
	remove := func(r *runtime.Registry, ctx context.Context) error {
		return r.Remove(ctx, fixtures.ShopKey, fixtures.Added)
	}
	p.tell("Add", func(r *runtime.Registry, ctx context.Context) error {
		return r.Add(ctx, fixtures.ShopKey, runtime.Endpoint{Addr: fixtures.Added})
	})
	return func() {
		if there() {
			p.tell("Remove", func(r *runtime.Registry, ctx context.Context) error {
				defer w.addRule(p.index, "Txn", etcd.Verdict{Err: rpctypes.ErrGRPCTimeout})()
				err := remove(r, ctx)
				if err == nil && there() {
					w.report(check.Returns, "Remove of %s returned nil, although etcd refused the deletion", p.name())
				}
				return err
			})
			p.tell("Remove", remove)
		}
		w.deleteOperators(fixtures.ShopKey + "/" + fixtures.Added)
	}
}

// tell makes the process change etcd through its registry.
func (p *process) tell(what string, call func(*runtime.Registry, context.Context) error) {
	p.do(func() {
		registry := p.running()
		if registry == nil {
			return
		}
		ctx, cancel := p.w.timeToLeave()
		defer cancel()
		act := check.Act{What: what, Who: p.name()}
		_ = p.w.act(ctx, act, func(ctx context.Context) error { return call(registry, ctx) }, nil) // the trace has the error
	})
}
