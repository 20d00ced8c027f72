// Package worstday holds a table: each row is an operation of a process, and
// each column is a fault of etcd or of the network to etcd. In a cell, the
// runtime and plain code do the operation at the same time, on the same etcd.
// The runtime must not be worse than plain code: it must not lose more calls,
// be much later, send etcd many more messages, or leave more in etcd. Its
// status must be correct.
//
// The rows of a column run at once and meet the same fault of one etcd. Heavy
// rows have an etcd of their own. A process has an etcd client, a prefix of
// keys and a [meter] of its own. A cell with complaints runs again, alone, and
// fails if it has complaints again.
//
// To add a column, add a literal to faults. To add a row, add a literal to
// serverRows or callerRows: its run function prepares, calls [cell.meet], which
// waits for the fault, does the operation on both sides, and calls
// [cell.complain] where ours is worse.
//
// go test -short runs a diagonal: each row and each column at least once. One
// cell: go test -v -run 'TestWorstDay//cut_2s/serve'.
package worstday

import (
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

// TestMain lets all cells of a column run at once, whatever their number.
func TestMain(m *testing.M) {
	os.Exit(leak.Main(10000, m.Run))
}

// row is an operation. Comments name the meaning of a zero value.
type row struct {
	name  string
	run   func(*cell)
	heavy bool // the row has much to do; the heavy rows of a column have an etcd of their own

	// the row has entries on a lease when the fault begins; false: the row does
	// not run under faults that affect only entries on leases
	held bool

	without string // a fault under which the row cannot be prepared; "": none
}

// TestWorstDay runs the cells of each column on one etcd, several columns at
// once, since a cell mostly waits. Then it runs cells with complaints again,
// each on an etcd of its own.
func TestWorstDay(t *testing.T) {
	columns := make([][]pair, len(faults))
	beside := 3

	for i, f := range faults {
		for _, r := range slices.Concat(serverRows, callerRows) {
			if (!f.held || r.held) && r.without != f.name {
				columns[i] = append(columns[i], pair{r, f})
			}
		}
	}

	if testing.Short() {
		columns = diagonal(columns)
		beside = 10
	}

	var groups, alone [][]pair

	for _, column := range columns {
		light := slices.DeleteFunc(slices.Clone(column), func(p pair) bool { return p.row.heavy })
		heavy := slices.DeleteFunc(column, func(p pair) bool { return !p.row.heavy })
		groups = append(groups, light, heavy)
	}

	for _, p := range pass(t, "beside", beside, groups) {
		alone = append(alone, []pair{p})
	}

	pass(t, "alone", 2, alone)
}

// pair is a cell that may run.
type pair struct {
	row   row
	fault fault
}

func (p pair) name() string {
	return p.row.name + " under " + p.fault.name
}

// diagonal returns a small part of the cells. It goes through the columns
// twice. In each column, it takes the first row that it has not taken in any
// column. If there is none, it takes any row the first time, and no row the
// second time.
func diagonal(columns [][]pair) [][]pair {
	few := make([][]pair, len(columns))
	seen := map[string]bool{}

	for i := range 2 * len(columns) {
		n := i % len(columns)
		at := slices.IndexFunc(columns[n], func(p pair) bool { return !seen[p.row.name] })
		if at < 0 && i == n {
			at = i % len(columns[n])
		}

		if at >= 0 {
			few[n] = append(few[n], columns[n][at])
			seen[columns[n][at].row.name] = true
		}
	}

	return few
}

// pass runs each group of cells on its own etcd. It returns the cells that had
// complaints. A cell that ran alone fails instead.
func pass(t *testing.T, name string, etcds int, groups [][]pair) (again []pair) {
	slots := make(chan struct{}, etcds)
	var mu sync.Mutex

	t.Run(name, func(t *testing.T) {
		for _, cells := range groups {
			if len(cells) == 0 {
				continue
			}

			f := cells[0].fault
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				t.Cleanup(func() { <-slots })

				b := newBed(t, f)
				for _, p := range cells {
					t.Run(p.row.name, func(t *testing.T) {
						b.waiting.Add(1)
						c := &cell{
							bed:   b,
							t:     t,
							name:  p.row.name,
							ready: sync.OnceFunc(b.waiting.Done),
						}

						t.Parallel() // all cells are known before one runs

						defer c.ready()

						p.row.run(c)

						mu.Lock()
						defer mu.Unlock()

						t.Logf("%s: %s", p.name(),
							strings.Join(append(c.complaints, c.figures...), "; "))

						if len(c.complaints) == 0 {
							return
						}

						again = append(again, p)

						if name == "alone" {
							t.Errorf("%s is worse than plain code, twice", p.name())
						}
					})
				}

				played := make(chan struct{})
				go func() {
					defer close(played)

					b.play()
				}()

				t.Cleanup(func() { <-played })
			})
		}
	})

	return again
}
