//go:build unix

// Package fleet holds a table. Each row is an event that affects etcd, or all
// processes of a fleet at once. One fleet has processes with our runtime, and
// one has processes with plain code. Each fleet has its own etcd, in a process
// of its own, whose messages and CPU time are counted. Our fleet must not ask
// much more of etcd than plain code, because the load of a fleet keeps a slow
// etcd slow. So the bounds of a row are ratios of counts, ours over plain. The
// time until the last process is current and registered must only be below a
// limit.
//
// A process follows five keys, of 20 endpoints in a large fleet, and registers
// one entry.
//
// To add a row, add a literal to rows, with its steps and with the bounds of
// its ratios. A new step is a function of a [cell], or an order in obey if only
// etcd's process can carry it out.
//
// go test -short runs some rows. One row with 200 processes: make fleet
// CELL=cut N=200
package fleet

import (
	"flag"
	"fmt"
	"log"
	"os"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

var processes = flag.Int("processes", 60, "how many processes a fleet has: a multiple of 20")

// TestMain runs the tests, or etcd if a test has started this process for that.
func TestMain(m *testing.M) {
	dir := os.Getenv(dirEnv)
	if dir != "" {
		log.Fatal("etcd's process ends: ", runEtcd(dir))
	}

	os.Exit(leak.Main(len(sides), m.Run))
}

// TestFleet runs the rows, and prints the table.
func TestFleet(t *testing.T) {
	table := "| ours / plain = ratio | " + columns + " |\n|---|---|---|---|---|---|---|---|---|\n"
	for _, r := range rows {
		if testing.Short() && !r.short {
			continue
		}

		t.Run(r.name, func(t *testing.T) {
			var all [len(sides)]figures
			t.Run("sides", func(t *testing.T) {
				for i, s := range sides {
					t.Run(s.name, func(t *testing.T) {
						// otherwise one side would slow down the other side
						if r.speed == 0 && r.tokens == "" && *processes <= 60 {
							t.Parallel()
						}

						all[i] = newCell(t, r, s).measure()
					})
				}
			})

			table += r.judge(t, all[0], all[1])
		})
	}

	fmt.Print(table)
}
