package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// column is a column of the table of ls.
type column struct {
	head  string
	cell  func(i *inventory.Instance) string
	value func(i *inventory.Instance) string // for filters and sorting; nil: cell
	rare  bool                               // hidden if no entry has a value
}

// columns are the columns of ls.
var columns = []column{
	{head: "SERVICE", cell: func(i *inventory.Instance) string { return i.Service }},
	{head: "INSTANCE", cell: func(i *inventory.Instance) string { return i.Instance }},
	{head: "ADDRESS", cell: func(i *inventory.Instance) string { return i.Addr }},
	{head: "VERSION", cell: func(i *inventory.Instance) string { return i.Version }},
	{head: "ZONE", cell: func(i *inventory.Instance) string { return i.Zone }},
	{head: "WEIGHT", cell: weightOf},
	{head: "LAYOUT", cell: layoutOf},
	{head: "LEASE", cell: leaseOf, value: leaseSeconds},
	{head: "LEADER", cell: leaderOf, rare: true},
	{head: "STATE", cell: stateText, value: stateOf},
}

func weightOf(i *inventory.Instance) string {
	if i.Weight == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(i.Weight), 10)
}

func layoutOf(i *inventory.Instance) string {
	if i.Err != nil {
		return ""
	}
	return i.Layout.String()
}

func leaseOf(i *inventory.Instance) string {
	switch {
	case i.Entry.Lease == 0:
		return "none"
	case i.Lease == nil:
		return ""
	case i.Lease.Expired():
		return "expired"
	}
	return output.Seconds(i.Lease.Left) + " of " + output.Seconds(i.Lease.Granted)
}

// leaseSeconds returns the time left on the lease in seconds, or the text of leaseOf if there is none.
func leaseSeconds(i *inventory.Instance) string {
	if i.Entry.Lease == 0 || i.Lease == nil || i.Lease.Expired() {
		return leaseOf(i)
	}
	return strconv.FormatInt(i.Lease.Left, 10)
}

func leaderOf(i *inventory.Instance) string {
	if i.Leads {
		return "leader"
	}
	return ""
}

func stateOf(i *inventory.Instance) string { return string(i.State) }

func stateText(i *inventory.Instance) string {
	if i.Err != nil {
		return stateOf(i) + ": " + i.Err.Error()
	}
	return stateOf(i)
}

// fieldOf returns the value of an entry for a column or, if no column has this name, for a metadata name.
func fieldOf(i *inventory.Instance, name string) string {
	for _, c := range columns {
		switch {
		case !strings.EqualFold(c.head, name):
		case c.value != nil:
			return c.value(i)
		default:
			return c.cell(i)
		}
	}
	return i.Field(name)
}

// table returns the columns of entries, without rare columns that are empty.
func table(entries []*inventory.Instance) (head []string, cells [][]string) {
	cells = make([][]string, len(entries))
	for _, c := range columns {
		if c.rare && !slices.ContainsFunc(entries, func(i *inventory.Instance) bool { return c.cell(i) != "" }) {
			continue
		}
		head = append(head, c.head)
		for n, i := range entries {
			cells[n] = append(cells[n], c.cell(i))
		}
	}
	return head, cells
}
