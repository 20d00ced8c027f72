package endpoint

import "testing"

// TestMarks_Cover checks that a mark covers the entries of its owner at the address, but no newer ones and none of others.
func TestMarks_Cover(t *testing.T) {
	m := Marks{}
	m.Add(Mark{Addr: "h:1", Instance: "a", Lease: 7, Revision: 5})
	m.Add(Mark{Addr: "h:1", Instance: "a", Lease: 7, Revision: 3}) // an older one changes nothing
	m.Add(Mark{Addr: "h:2", Instance: "added", Revision: 5})       // without a lease
	for _, tt := range []struct {
		addr, instance string
		layout         Layout
		lease, created int64
		covers         bool
	}{
		{"h:1", "a", EndpointJSON, 7, 5, true},
		{"h:1", "a", Kratos, 6, 4, true}, // of an earlier process
		{"h:1", "h:1", LeaseSuffix, 7, 4, true},
		{"h:1", "h:1", Kitex, 7, 4, true},
		{"h:1", "a", EndpointJSON, 7, 6, false},
		{"h:1", "h:1", GoZero, 7, 6, false},
		{"h:1", "h:1", GoZero, 8, 4, false},
		{"h:1", "b", EndpointJSON, 8, 4, false},
		{"h:1", "b", EndpointJSON, 7, 4, false}, // of the same process
		{"h:2", "a", EndpointJSON, 7, 4, false},
		{"h:2", "added", EndpointJSON, 0, 4, true},
		{"h:2", "h:2", Kitex, 0, 4, false},
	} {
		e := Entry{Endpoint: &Endpoint{Addr: tt.addr, Instance: tt.instance}, Layout: tt.layout, CreateRevision: tt.created}
		if got := m.Cover(e, tt.lease); got != tt.covers {
			t.Errorf("%+v is covered: %v", tt, got)
		}
	}
}
