package main

import (
	"slices"
	"strconv"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// row is an entry of a view in a table.
type row struct {
	*survey.Instance
	service           string
	layout, left, say string // the name of the layout, the time left on the lease, the state
}

// column is one of the tables of ls and watch. On a terminal that is too narrow for all, watch drops those with the least
// rank first, and before them the ones that repeat another in each row.
type column struct {
	head    string
	cell    func(r *row) string
	rank    int
	repeats func(r *row) bool // nil: never
}

const (
	lsOnly = -1  // the rank of what watch does not show
	kept   = 100 // the rank of what it never drops: the first of these is cut
)

// columns are those of ls. The last is as wide as it has to be.
var columns = []column{
	{head: "SERVICE", cell: func(r *row) string { return r.service }, rank: lsOnly},
	{head: "INSTANCE", cell: func(r *row) string { return r.Instance.Instance }, rank: kept},
	{head: "ADDRESS", cell: func(r *row) string { return r.Addr }, rank: 5, repeats: func(r *row) bool { return r.Addr == r.Instance.Instance }},
	{head: "VERSION", cell: func(r *row) string { return r.Version }, rank: 3},
	{head: "ZONE", cell: func(r *row) string { return r.Zone }, rank: 2},
	{head: "WEIGHT", cell: weightOf, rank: 1},
	{head: "LAYOUT", cell: func(r *row) string { return r.layout }, rank: 0},
	{head: "LEASE", cell: func(r *row) string { return r.left }, rank: 4},
	{head: "STATE", cell: func(r *row) string { return r.say }, rank: kept},
}

func weightOf(r *row) string {
	if r.Weight == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(r.Weight), 10)
}

// onScreen returns the columns that watch shows.
func onScreen(columns []column) []column {
	return slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return c.rank == lsOnly })
}

// table returns rows under the heads of columns.
func table(columns []column, rows []row) (head []string, cells [][]string) {
	for _, c := range columns {
		head = append(head, c.head)
	}
	for n := range rows {
		line := make([]string, len(columns))
		for i, c := range columns {
			line[i] = c.cell(&rows[n])
		}
		cells = append(cells, line)
	}
	return head, cells
}

// rows returns the entries of the services.
func (v *view) rows() (rows []row) {
	for _, s := range v.services {
		states := s.States()
		for n := range s.Instances {
			i := &s.Instances[n]
			rows = append(rows, row{i, s.Key, s.LayoutName(*i), v.timeLeft(i.Entry.Lease), string(states.Of(i))})
		}
		for n := range s.Malformed {
			i := &s.Malformed[n]
			rows = append(rows, row{i, s.Key, "", v.timeLeft(i.Entry.Lease), "malformed: " + i.Err.Error()})
		}
	}
	return rows
}

func (v *view) timeLeft(lease int64) string {
	t, known := v.leases[lease]
	switch {
	case lease == 0:
		return "none"
	case !known:
		return ""
	case t.Expired():
		return "expired"
	}
	return output.Seconds(t.Left) + " of " + output.Seconds(t.Granted)
}
