package discovery

import "github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"

// marks are the entries whose owners are withdrawing an instance. [endpoint.Marks] decides which other entries they cover. The
// zero value is ready for use.
type marks struct {
	byKey map[string]endpoint.Mark // by the etcd key of the marked entry
}

// apply returns the entries that no mark covers, the covered ones, and the addresses that are left without an entry. removed
// are the entries that were removed since the last call. A mark lasts as long as it covers an entry.
func (m *marks) apply(items, removed []*item) (rest, leaving []*item, withdrawn map[string]struct{}) {
	for _, i := range removed {
		m.note(i)
	}
	for _, i := range items {
		m.note(i)
	}
	if len(m.byKey) == 0 {
		return items, nil, nil
	}
	latest, withdrawn := make(endpoint.Marks), make(map[string]struct{})
	for _, mark := range m.byKey {
		latest.Add(mark)
		withdrawn[mark.Addr] = struct{}{}
	}
	covered := make(map[string]bool)
	rest = make([]*item, 0, len(items))
	for _, i := range items {
		addr := i.Value.Endpoint.Addr
		if latest.Cover(entryOf(i), i.Lease) {
			covered[addr] = true
			leaving = append(leaving, i)
			continue
		}
		delete(withdrawn, addr)
		rest = append(rest, i)
	}
	for key, mark := range m.byKey {
		if !covered[mark.Addr] {
			delete(m.byKey, key)
		}
	}
	return rest, leaving, withdrawn
}

// note records the mark of an entry. It replaces the mark of an earlier entry under its key, or removes it if the entry has
// none now.
func (m *marks) note(i *item) {
	switch old, known := m.byKey[i.Key]; {
	case !i.Value.leaving:
		if known {
			delete(m.byKey, i.Key)
		}
	case !known || old.Addr != i.Value.Endpoint.Addr || old.Revision < i.CreateRevision:
		if m.byKey == nil {
			m.byKey = make(map[string]endpoint.Mark)
		}
		e := &i.Value.Endpoint
		m.byKey[i.Key] = endpoint.Mark{Addr: e.Addr, Instance: e.Instance, Lease: i.Lease, Revision: i.ModRevision}
	}
}
