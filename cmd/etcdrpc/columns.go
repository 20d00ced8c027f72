package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// columns are the columns of ls. LEADER is hidden if no entry leads.
var columns = []string{"SERVICE", "INSTANCE", "ADDRESS", "VERSION", "ZONE", "WEIGHT", "LAYOUT", "LEASE", "LEADER", "STATE"}

// rowOf returns the cells of an entry, in the order of columns.
func rowOf(i *inventory.Instance) []string {
	weight, layout, leader, state := "", "", "", string(i.State)
	if i.Weight != 0 {
		weight = strconv.FormatUint(uint64(i.Weight), 10)
	}
	if i.Err != nil {
		state += ": " + i.Err.Error()
	} else {
		layout = i.Layout.String()
	}
	if i.Leads {
		leader = "leader"
	}
	return []string{i.Service, i.Instance, i.Addr, i.Version, i.Zone, weight, layout, leaseOf(i), leader, state}
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

// fieldOf returns the value of an entry to filter by: that of a column or, if none has this name, of metadata.
func fieldOf(i *inventory.Instance, name string) string {
	switch n := slices.IndexFunc(columns, func(head string) bool { return strings.EqualFold(head, name) }); {
	case n < 0:
		return i.Field(name)
	case columns[n] == "STATE":
		return string(i.State)
	default:
		return rowOf(i)[n]
	}
}

// table returns the columns of entries.
func table(entries []*inventory.Instance) (head []string, cells [][]string) {
	leads := slices.ContainsFunc(entries, func(i *inventory.Instance) bool { return i.Leads })
	leader := slices.Index(columns, "LEADER")
	shown := func(row []string) []string {
		if leads {
			return row
		}
		return slices.Concat(row[:leader], row[leader+1:])
	}
	for _, i := range entries {
		cells = append(cells, shown(rowOf(i)))
	}
	return shown(columns), cells
}
