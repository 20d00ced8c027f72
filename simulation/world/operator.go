package world

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// nobody is an entry of an address that nobody serves.
	nobody     = `{"Addr":"` + nobodyAddr + `"}`
	nobodyAddr = "10.9.0.9:80"
	nobodyKey  = shopKey + "/nobody"
	// badKey holds an entry that readers skip.
	badKey = shopKey + "/bad"
)

// noLease is for keys that stay until they are deleted.
const noLease = 0

// put puts a key as an operator, who does not see that there is no space for it.
func (w *World) put(key, value string, lease int64) { _ = w.etcd.Put(key, value, lease) }

// isOperators reports whether an operator has put the entry.
func isOperators(e etcd.Entry) bool {
	return e.Value == nobody && e.Lease == noLease || e.Key == badKey
}

// onEntries does something to each entry that names the address of a server.
func onEntries(do func(*World, etcd.Entry)) fault {
	return func(w *World, _ context.Context, s schedule.Step) {
		_, addr := w.servers[s.Who].known()
		for _, e := range w.etcd.Entries(prefix) {
			if strings.Contains(e.Value, addr) {
				do(w, e)
			}
		}
	}
}

func (w *World) entryOverwritten(ctx context.Context, s schedule.Step) {
	var overwritten []string
	onEntries(func(w *World, e etcd.Entry) {
		w.put(e.Key, nobody, noLease)
		overwritten = append(overwritten, e.Key)
	})(w, ctx, s)
	time.Sleep(s.For)
	for _, key := range overwritten {
		if e, ok := w.etcd.Get(key); ok && isOperators(e) {
			w.etcd.Delete(key)
		}
	}
}

func (w *World) revoke(e etcd.Entry) {
	w.force(e.Lease)
	_ = w.etcd.Revoke(e.Lease) // it may be revoked already, for another entry of the server
}

func (w *World) entryAdded(_ context.Context, s schedule.Step) {
	w.put(nobodyKey, nobody, noLease)
	w.soon("there is another entry", func(k runtime.KeyStatus) bool {
		_, ok := w.etcd.Get(nobodyKey)
		return !ok || slices.Contains(addrsOf(k.Endpoints), nobodyAddr)
	})
	time.Sleep(s.For)
	w.etcd.Delete(nobodyKey)
}

func (w *World) badEntryAdded(_ context.Context, s schedule.Step) {
	w.put(badKey, s.Text, noLease)
	time.Sleep(s.For)
	w.etcd.Delete(badKey)
}

func (w *World) configPut(_ context.Context, s schedule.Step) {
	w.put(configKey, s.Text, noLease)
	put, _ := w.etcd.Get(configKey)
	w.soon("the live config is "+s.Text, func(k runtime.KeyStatus) bool {
		live, _ := w.etcd.Get(configKey) // another put, even of the same text, has its own time
		return put.Value != s.Text || live.Mod != put.Mod || holds(k.ServiceConfig, s.Text)
	})
}

func (w *World) configDeleted(context.Context, schedule.Step) {
	w.etcd.Delete(configKey)
	deleted := time.Now()
	put := func(c etcd.Change) bool { return c.Key == configKey && !c.Delete }
	w.soon("there is no live config", func(k runtime.KeyStatus) bool {
		_, ok := w.etcd.Get(configKey)
		return ok || k.ServiceConfig == "" || slices.ContainsFunc(w.since(deleted), put)
	})
}
