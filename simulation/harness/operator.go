package harness

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// put puts a key as an operator, who does not see that there is no space for it.
func (t *trial) put(key, value string, lease int64) { _ = t.Etcd.Put(key, value, lease) }

// entriesOf returns the entries that name the address of a server.
func (t *trial) entriesOf(server int) []etcd.Entry {
	_, addr := t.servers[server].known()
	return slices.DeleteFunc(t.Etcd.Entries(acme.Prefix), func(e etcd.Entry) bool { return acme.AddrIn(e.Value) != addr })
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
			if e, ok := t.Etcd.Get(o.Key); ok && acme.IsOperators(e) {
				t.Etcd.Delete(o.Key)
			}
		}
	}
}

func (t *trial) revoke(e etcd.Entry) {
	t.Forced(e.Lease)
	_ = t.Etcd.Revoke(e.Lease) // it may be revoked already, for another entry of the server
}

func (t *trial) entryAdded(schedule.Step) (end func()) {
	t.put(acme.NobodyKey, acme.Nobody, acme.NoLease)
	t.readers.soon("there is another entry", func(k runtime.KeyStatus) bool {
		_, ok := t.Etcd.Get(acme.NobodyKey)
		return !ok || slices.Contains(acme.Addrs(k.Endpoints), acme.NobodyAddr)
	})
	return func() { t.Etcd.Delete(acme.NobodyKey) }
}

// entryAddedBy has a process add an entry through its registry, and remove it after a time.
func (t *trial) entryAddedBy(ctx context.Context, p *process, lasts time.Duration) {
	there := func() bool {
		return slices.ContainsFunc(t.Etcd.Entries(acme.ShopKey+"/"), func(e etcd.Entry) bool { return acme.AddrIn(e.Value) == acme.Added })
	}
	p.tell(ctx, "Add", func(r *runtime.Registry, ctx context.Context) error {
		return r.Add(ctx, acme.ShopKey, runtime.Endpoint{Addr: acme.Added})
	}, there)
	time.Sleep(lasts)
	if there() {
		t.removeInVain(ctx, p, there)
		p.tell(ctx, "Remove", func(r *runtime.Registry, ctx context.Context) error {
			return r.Remove(ctx, acme.ShopKey, acme.Added)
		}, func() bool { return !there() })
	}
	t.undo()
}

// removeInVain has a process remove the entry while etcd refuses it what it asks for: it must not say that it has.
func (t *trial) removeInVain(ctx context.Context, p *process, there func() bool) {
	p.tell(ctx, "Remove, which etcd refuses,", func(r *runtime.Registry, ctx context.Context) error {
		t.Add(schedule.Step{Kind: schedule.RequestsFail, At: t.Now(), Who: p.index, Text: "Txn"})
		allow := t.requests.add(p.index, "Txn", etcd.Verdict{Err: rpctypes.ErrGRPCTimeout})
		defer allow()
		return r.Remove(ctx, acme.ShopKey, acme.Added)
	}, func() bool { return !there() })
}

// tell has the process change etcd by a call, and judges that it says whether it has done so.
func (p *process) tell(ctx context.Context, what string, call func(*runtime.Registry, context.Context) error, done func() bool) {
	p.do(func() {
		registry := p.running()
		if registry == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		began := time.Now()
		err := call(registry, ctx)
		p.w.Note("%s of %s: %v", what, p.name(), err)
		p.bound(ctx, began, what, record.ContextOnly)
		others := slices.ContainsFunc(p.w.Since(began), func(c etcd.Change) bool {
			return c.Client != p.from && strings.HasPrefix(c.Key, acme.ShopKey+"/")
		})
		switch {
		case p.w.ResetSince(began) || others:
		case err == nil && !done():
			p.w.Report(check.Answers, "%s of %s returned nil, and etcd has %v", what, p.name(), p.w.Etcd.Entries(acme.ShopKey+"/"))
		case err != nil && ctx.Err() == nil && !p.hamperedSince(began):
			p.w.Report(check.Answers, "%s of %s, with nothing in its way: %v", what, p.name(), err)
		}
	})
}

func (t *trial) configPut(s schedule.Step) {
	t.put(acme.ConfigKey, s.Text, acme.NoLease)
	put, _ := t.Etcd.Get(acme.ConfigKey)
	t.readers.soon("the live config is "+s.Text, func(k runtime.KeyStatus) bool {
		live, _ := t.Etcd.Get(acme.ConfigKey) // another put, even of the same text, has its own time
		return put.Value != s.Text || live.Mod != put.Mod || acme.Holds(k.ServiceConfig, s.Text)
	})
}

func (t *trial) configDeleted(schedule.Step) {
	t.Etcd.Delete(acme.ConfigKey)
	deleted := time.Now()
	put := func(c etcd.Change) bool { return c.Key == acme.ConfigKey && !c.Delete }
	t.readers.soon("there is no live config", func(k runtime.KeyStatus) bool {
		_, ok := t.Etcd.Get(acme.ConfigKey)
		return ok || k.ServiceConfig == "" || slices.ContainsFunc(t.Since(deleted), put)
	})
}

// undo takes back what operators have put. Their steps have done so, but a backup may have brought it back.
func (t *trial) undo() {
	t.Etcd.Alarm(false)
	for _, key := range []string{acme.ShopKey, acme.UserKey} {
		for _, e := range t.Etcd.Entries(key + "/") {
			if acme.IsOperators(e) {
				t.Etcd.Delete(e.Key)
			}
		}
	}
}
