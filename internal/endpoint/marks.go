package endpoint

// Marks are the marks of entries that are being withdrawn. A mark covers what its owner had at the address when the mark was
// put, in whatever layout, for not every layout can carry one: the entries of that instance, and those that name none and are
// on its lease. It covers nothing newer, and nothing of others: another instance may come to the address, or share it.
type Marks map[owner]int64 // the revision of the latest

// owner is one of the names of who has entries at an address: an instance, or a lease.
type owner struct {
	addr, instance string
	lease          int64
}

// Mark is an entry that is being withdrawn, put so at a revision.
type Mark struct {
	Addr, Instance  string
	Lease, Revision int64
}

// Add notes a mark.
func (m Marks) Add(mark Mark) {
	names := [...]owner{{addr: mark.Addr, instance: mark.Instance}, {addr: mark.Addr, lease: mark.Lease}}
	for _, name := range names {
		m[name] = max(m[name], mark.Revision)
	}
}

// Cover reports whether an entry on a lease is being withdrawn.
func (m Marks) Cover(e Entry, lease int64) bool {
	addr := e.Endpoint.Addr
	by := func(name owner) bool {
		revision, marked := m[name]
		return marked && e.CreateRevision <= revision
	}
	return by(owner{addr: addr, instance: e.Endpoint.Instance}) ||
		e.Layout.ends != atInstance && lease != 0 && by(owner{addr: addr, lease: lease})
}
