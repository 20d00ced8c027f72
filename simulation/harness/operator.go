package harness

import (
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// put puts a key as an operator, who does not see that there is no space for it.
func (t *trial) put(key, value string, lease int64) { _ = t.Etcd.Put(key, value, lease) }

// entriesOf returns the entries that name the address of a server.
func (t *trial) entriesOf(server int) []etcd.Entry {
	_, addr := t.servers[server].known()
	return slices.DeleteFunc(t.Etcd.Entries(acme.Prefix), func(e etcd.Entry) bool { return !strings.Contains(e.Value, addr) })
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
