package harness

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// operated records the error of an operator's request, such as no space, no
// quorum, or an unknown lease.
func (w *world) operated(err error) {
	if err != nil {
		w.note("an operator's request has failed: %v", err)
	}
}

// put puts a key as an operator.
func (w *world) put(key, value string, lease int64) {
	w.operated(w.etcd.Put(key, value, lease))
}

// add adds an entry as an operator, until the returned function is called.
func (w *world) add(key, value string) (remove func()) {
	w.put(key, value, fixtures.NoLease)
	return func() { w.operated(w.etcd.Delete(key)) }
}

func (w *world) putConfig(s schedule.Step) {
	w.put(fixtures.ConfigKey, s.Text, fixtures.NoLease)
}

// operates returns a fault that makes one request as an operator.
func operates(request func(*etcd.Cluster) error) fault {
	return once(func(w *world, _ schedule.Step) { w.operated(request(w.etcd)) })
}

// entriesOf returns the entries that name the address of a server.
func (w *world) entriesOf(server int) []etcd.Entry {
	addr := w.servers[server].seen().Addr

	return slices.DeleteFunc(w.etcd.Entries(fixtures.Prefix), func(e etcd.Entry) bool {
		return fixtures.Read(e).Addr != addr
	})
}

// onEntries calls do for each entry with the address of a server.
func onEntries(do func(*world, etcd.Entry)) fault {
	return once(func(w *world, s schedule.Step) {
		for _, e := range w.entriesOf(s.Who) {
			do(w, e)
		}
	})
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

// deleteOperators deletes the entries of operators whose keys begin with
// prefix.
func (w *world) deleteOperators(prefix string) {
	for _, e := range w.etcd.Entries(prefix) {
		if fixtures.IsOperators(e) {
			w.operated(w.etcd.Delete(e.Key))
		}
	}
}
