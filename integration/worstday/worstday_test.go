// Package worstday holds a table: each operation of a process (a row) under each fault of etcd and of the way to it (a column).
// In a cell the runtime does the operation beside plain code, against the same etcd at the same time, and must not be worse: it
// loses no call that plain code does not lose, is not much later, does not ask etcd much more often, leaves nothing behind that
// plain code does not leave, and says nothing that is not so.
//
// All rows of a column run at once and meet the same fault of one etcd. A process has an etcd client, a prefix of keys and a [meter]
// of its own. A cell with complaints runs again, alone, and fails if it has complaints again.
//
// To add a column, add a literal to faults. To add a row, add a literal to serverRows or callerRows: its run function prepares,
// calls [cell.meet], which waits for the fault, does the operation on both sides, and calls [cell.complain] where ours is worse.
// If users asked for the difference, a row of known names the page that says so.
//
// go test -short runs a diagonal: each row and each column at least once. One cell: go test -run 'TestWorstDay//cut_2s/serve'.
package worstday

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

// beside and alone are how many etcds run at once in the two passes. A cell mostly waits.
const (
	beside = 6
	alone  = 2
)

// TestMain lets all cells of a column run at once, whatever their number.
func TestMain(m *testing.M) { os.Exit(leak.Main(10000, m.Run)) }

// row is an operation. Comments name the meaning of a zero value.
type row struct {
	name string
	run  func(*cell)
	held bool // it has entries on a lease when the fault begins; false: it does not run under faults of such entries
}

// rows returns the table's rows.
func rows() []row { return slices.Concat(serverRows, callerRows) }

func TestWorstDay(t *testing.T) {
	m := &matrix{cells: make(map[string]string)}
	chosen := everyCell()
	if testing.Short() {
		chosen = diagonal()
	}
	again := m.pass(t, "beside", beside, [][]pair{chosen})
	var each [][]pair
	for _, p := range again {
		each = append(each, []pair{p})
	}
	m.pass(t, "alone", alone, each)
	t.Log(m)
}

// pair names a cell.
type pair struct {
	fault fault
	row   row
}

func (p pair) name() string { return p.row.name + " under " + p.fault.name }

func everyCell() (all []pair) {
	for _, f := range faults {
		for _, r := range rows() {
			if !f.held || r.held {
				all = append(all, pair{f, r})
			}
		}
	}
	return all
}

// diagonal returns few cells, with each row and each fault at least once.
func diagonal() (few []pair) {
	all := everyCell()
	seen := make(map[string]bool)
	for i := range max(len(faults), len(rows())) {
		f, r := faults[i%len(faults)], rows()[i%len(rows())]
		for _, p := range all {
			same := p.fault.name == f.name && p.row.name == r.name
			other := p.fault.name == f.name && !seen[f.name] || p.row.name == r.name && !seen[r.name]
			if same || other && f.held && !r.held {
				few = append(few, p)
				seen[p.fault.name], seen[p.row.name] = true, true
				if same {
					break
				}
			}
		}
	}
	return few
}

// matrix holds a mark for each run of each cell.
type matrix struct {
	mu    sync.Mutex
	cells map[string]string
}

// pass runs groups of cells, of which those of one fault share an etcd. It returns the cells with complaints, and with name "alone"
// these fail.
func (m *matrix) pass(t *testing.T, name string, etcds int, groups [][]pair) (again []pair) {
	slots := make(chan struct{}, etcds)
	t.Run(name, func(t *testing.T) {
		for _, cells := range groups {
			for _, f := range faults {
				var of []pair
				for _, p := range cells {
					if p.fault.name == f.name {
						of = append(of, p)
					}
				}
				if len(of) == 0 {
					continue
				}
				t.Run(f.name, func(t *testing.T) {
					t.Parallel()
					slots <- struct{}{}
					t.Cleanup(func() { <-slots })
					b := newBed(t, f)
					for _, p := range of {
						t.Run(p.row.name, func(t *testing.T) {
							c := b.newCell(t, p.row.name)
							t.Parallel() // the rows begin when all are known
							defer c.ready()
							p.row.run(c)
							m.mu.Lock()
							defer m.mu.Unlock()
							m.cells[p.name()] += c.mark()
							if len(c.complaints) > 0 {
								again = append(again, p)
							}
							if t.Logf("%s: %s", p.name(), c); len(c.complaints) > 0 && name == "alone" {
								t.Errorf("%s is worse than plain code twice: %s", p.name(), strings.Join(c.complaints, "; "))
							}
						})
					}
					played := make(chan struct{})
					go func() { defer close(played); b.play() }()
					t.Cleanup(func() { <-played })
				})
			}
		}
	})
	slices.SortFunc(again, func(a, b pair) int { return cmp.Compare(a.name(), b.name()) })
	return again
}

// String is a table with a line for each row: "." no worse, "W" worse, "k" known, for each run.
func (m *matrix) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "\n%-24s", "")
	for i := range faults {
		fmt.Fprintf(&s, "%-4d", i)
	}
	for _, r := range rows() {
		fmt.Fprintf(&s, "\n%-24s", r.name)
		for _, f := range faults {
			fmt.Fprintf(&s, "%-4s", cmp.Or(m.cells[pair{f, r}.name()], "-"))
		}
	}
	for i, f := range faults {
		fmt.Fprintf(&s, "\n%d %s", i, f.name)
	}
	return s.String()
}
