package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// row is an entry of a view in a table.
type row struct {
	*survey.Instance
	service *survey.Service
	lease   survey.LeaseTime
	looked  bool // the lease is known
	state   survey.State
	drained bool
	leads   bool
}

// column is one of the table of ls.
type column struct {
	head  string
	cell  func(r *row) string
	value func(r *row) string // what filters and orders go by; nil: cell
	rare  bool                // it is left out where no row has it
}

// columns are those of ls. The last is as wide as it has to be.
var columns = []column{
	{head: "SERVICE", cell: func(r *row) string { return r.service.Key }},
	{head: "INSTANCE", cell: func(r *row) string { return r.Instance.Instance }},
	{head: "ADDRESS", cell: func(r *row) string { return r.Addr }},
	{head: "VERSION", cell: func(r *row) string { return r.Version }},
	{head: "ZONE", cell: func(r *row) string { return r.Zone }},
	{head: "WEIGHT", cell: weightOf},
	{head: "LAYOUT", cell: layoutOf},
	{head: "LEASE", cell: leaseOf, value: secondsOf},
	{head: "LEADER", cell: leaderOf, rare: true},
	{head: "STATE", cell: sayState, value: stateOf},
}

func weightOf(r *row) string {
	if r.Weight == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(r.Weight), 10)
}

func layoutOf(r *row) string {
	if r.Err != nil {
		return ""
	}
	return r.service.LayoutName(*r.Instance)
}

func leaseOf(r *row) string {
	switch {
	case r.Entry.Lease == 0:
		return "none"
	case !r.looked:
		return ""
	case r.lease.Expired():
		return "expired"
	}
	return output.Seconds(r.lease.Left) + " of " + output.Seconds(r.lease.Granted)
}

// secondsOf returns the time left on the lease as a number, where there is one.
func secondsOf(r *row) string {
	if text := leaseOf(r); !strings.Contains(text, " of ") {
		return text
	}
	return strconv.FormatInt(r.lease.Left, 10)
}

func leaderOf(r *row) string {
	if r.leads {
		return "leader"
	}
	return ""
}

func stateOf(r *row) string { return string(r.state) }

func sayState(r *row) string {
	if r.Err != nil {
		return stateOf(r) + ": " + r.Err.Error()
	}
	return stateOf(r)
}

// field returns what a row has under the name of a column or, where there is none of that name, of a piece of metadata.
func (r *row) field(name string) string {
	for _, c := range columns {
		switch {
		case !strings.EqualFold(c.head, name):
		case c.value != nil:
			return c.value(r)
		default:
			return c.cell(r)
		}
	}
	return r.Field(name)
}

// present returns the columns without the rare ones that no row has.
func present(columns []column, rows []row) []column {
	return slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return c.rare && !slices.ContainsFunc(rows, func(r row) bool { return c.cell(&r) != "" })
	})
}

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

// rows returns the entries of the services that the view is narrowed to, in its order.
func (v *view) rows() []row {
	rows := slices.DeleteFunc(v.all(), func(r row) bool {
		return slices.ContainsFunc(v.filters, func(f filter) bool { return !f.passes(&r) })
	})
	if v.sort != "" {
		slices.SortStableFunc(rows, func(a, b row) int { return survey.CompareNames(a.field(v.sort), b.field(v.sort)) })
	}
	return rows
}

// all returns the entries of all services of the view.
func (v *view) all() (rows []row) {
	for _, s := range v.Services {
		states := s.States()
		for _, set := range [][]survey.Instance{s.Instances, s.Malformed} {
			for n := range set {
				i := &set[n]
				t, looked := v.leases[i.Entry.Lease]
				leads := i.Err == nil && v.Leads(s.Key, i.Instance)
				rows = append(rows, row{Instance: i, service: s, lease: t, looked: looked, state: states.Of(i), drained: states.Drained(i), leads: leads})
			}
		}
	}
	return rows
}
