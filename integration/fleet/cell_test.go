//go:build unix

package fleet

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	prefix   = "fleet/"        // of all keys
	followed = 5               // keys that a process follows
	calm     = 4 * time.Second // between the start of the fleet and the first step

	// the minimum time after the last step in which messages count; not a
	// multiple of 5 s, the interval of renewals
	tail = 13 * time.Second

	// the time after the last step within which all processes must be current
	// and registered
	limit = 100 * time.Second
)

// cell is a row with one of the sides, on an etcd of its own.
type cell struct {
	t    *testing.T
	row  row
	side side

	etcd    *os.Process
	orders  io.Writer
	answers *json.Decoder
	own     float64         // messages of the test itself to etcd, which do not count
	config  clientv3.Config // of the fleet

	fleet   []*process
	keys    []string
	changes int
	marker  string  // the address that all keys have since the last change
	stopped float64 // number of stops of processes, each of which deletes an entry
}

func newCell(t *testing.T, r row, s side) *cell {
	c := &cell{t: t, row: r, side: s}
	c.startEtcd()

	for i := range max(followed, *processes/20) {
		c.keys = append(c.keys, fmt.Sprint(prefix, i))
	}

	for i := range *processes {
		p := &process{cell: c, addr: fmt.Sprintf("10.1.%d.%d:80", i/250, 1+i%250)}
		for j := range followed {
			p.keys = append(p.keys, c.keys[(i+j)%len(c.keys)])
		}

		c.fleet = append(c.fleet, p)
	}

	c.do("change")

	return c
}

// missing returns the number of processes that are not current. If all are
// current, it returns the number of processes that are not registered.
func (c *cell) missing() (n int) {
	for _, p := range c.fleet {
		if !p.current() {
			n++
		}
	}

	if n == 0 {
		n = len(c.fleet) + len(c.keys) - int(c.order("entries")["entries"])
	}

	return n
}

// settle waits until no process is missing, and fails the test after the limit.
func (c *cell) settle() {
	for start := time.Now(); c.missing() > 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > limit {
			c.t.Errorf("%d processes are not current and registered after %v", c.missing(), limit)
			return
		}
	}
}

// measure does the steps of the row, and returns what they cost.
func (c *cell) measure() figures {
	if c.row.speed > 0 {
		c.throttle()
	}

	if !strings.Contains(c.row.steps, "start") {
		c.do("start")
		c.settle()
		time.Sleep(calm)
	}

	before := c.order("count")

	for _, step := range strings.Fields(c.row.steps) {
		c.do(step)
	}

	over := time.Now()
	c.settle()
	last := time.Since(over)
	time.Sleep(time.Until(over.Add(tail)))

	cost := c.order("count")
	for column, n := range before {
		if column != "open" {
			cost[column] -= n
		}
	}

	cost["lost"] -= c.stopped
	cost["last s"] = last.Seconds()
	c.t.Log(cost)

	return cost
}
