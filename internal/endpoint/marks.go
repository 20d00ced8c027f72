package endpoint

// Marks holds the marks of entries that are being withdrawn. Not every layout can carry a mark, so a mark covers all
// entries that its owner had at the address at that time: those of the instance, and those without an instance id on
// its lease. It covers no newer entries and no other instances: another instance may reuse or share the address.
type Marks map[owner]int64 // the revision of the latest mark

// owner identifies the owner of entries at an address by its instance or its lease.
type owner struct {
	addr, instance string
	lease          int64
}

// Mark is an entry that its owner marked at a revision.
type Mark struct {
	Addr, Instance  string
	Lease, Revision int64
}

// Add adds a mark.
func (m Marks) Add(mark Mark) {
	names := [...]owner{{addr: mark.Addr, instance: mark.Instance}, {addr: mark.Addr, lease: mark.Lease}}
	for _, name := range names {
		m[name] = max(m[name], mark.Revision)
	}
}

// Cover reports whether a mark covers an entry on a lease.
func (m Marks) Cover(e Entry, lease int64) bool {
	addr := e.Endpoint.Addr
	by := func(name owner) bool {
		revision, marked := m[name]
		return marked && e.CreateRevision <= revision
	}
	return by(owner{addr: addr, instance: e.Endpoint.Instance}) ||
		e.Layout.ends != atInstance && lease != 0 && by(owner{addr: addr, lease: lease})
}
