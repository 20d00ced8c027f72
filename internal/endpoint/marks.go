package endpoint

// Marks are the marks of entries that are being withdrawn: by address, the revision of the latest. A mark covers what its
// address had in etcd when it was put, in whatever layout, for not every layout can carry one; and nothing newer, for
// another instance may come to the address.
type Marks map[string]int64

// Add notes the mark of an entry with an address, put at a revision.
func (m Marks) Add(addr string, revision int64) { m[addr] = max(m[addr], revision) }

// Cover reports whether an entry with an address, created at a revision, is being withdrawn.
func (m Marks) Cover(addr string, created int64) bool {
	revision, marked := m[addr]
	return marked && created <= revision
}
