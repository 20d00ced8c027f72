package worstday

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// never stands for the duration of something that did not happen.
const never = time.Hour

// cell is a row under a fault.
type cell struct {
	*bed
	t     *testing.T // the cell's; bed.t is the column's
	name  string     // of the row
	ready func()     // must be called when the row waits for the fault

	notes      sync.Mutex
	complaints []string
	figures    []string
}

// client returns an etcd client of a process, and its meter.
func (c *cell) client() (*clientv3.Client, *meter) {
	m := new(meter)

	c.mu.Lock()
	c.meters = append(c.meters, m)
	c.mu.Unlock()

	select {
	case <-c.begun:
		m.restart(c.fault.hangs)
	default:
	}

	change := func(cfg *clientv3.Config) {
		cfg.DialOptions = append(m.options(), grpc.WithContextDialer(c.way.dial))

		if c.fault.user {
			cfg.Username = user
			cfg.Password = user
		}
	}

	return c.cluster.Client(c.t, change), m
}

// prefix returns the prefix of the keys of a side, such as "ours" or "plain".
func (c *cell) prefix(side string) string {
	return strings.ReplaceAll(c.name, " ", "-") + "-" + side + "/"
}

// meet reports that the cell is ready, and waits until the fault has begun.
func (c *cell) meet() {
	c.ready()
	<-c.begun
}

// complain records in what respect our side is worse.
func (c *cell) complain(format string, args ...any) {
	c.notes.Lock()
	defer c.notes.Unlock()

	c.complaints = append(c.complaints, fmt.Sprintf(format, args...))
}

// figure records a measurement.
func (c *cell) figure(format string, args ...any) {
	c.notes.Lock()
	defer c.notes.Unlock()

	c.figures = append(c.figures, fmt.Sprintf(format, args...))
}

// compareTime complains if our time exceeds each of these: twice the time of
// plain code, the time of plain code plus 2 s, and luck.
func (c *cell) compareTime(what string, ours, plain, luck time.Duration) {
	c.figure("%s after %s (plain %s)", what, seconds(ours), seconds(plain))

	if ours > max(2*plain, plain+2*time.Second, luck) {
		c.complain("%s: %s, plain %s", what, seconds(ours), seconds(plain))
	}
}

// compareRequests complains if our side sends etcd more than 3*plain+more
// messages.
func (c *cell) compareRequests(ours, plain, more int) {
	c.figure("messages %d (plain %d)", ours, plain)

	if ours > 3*plain+more {
		c.complain("%d messages to etcd, plain %d", ours, plain)
	}
}

func seconds(d time.Duration) string {
	if d >= never {
		return "never"
	}

	return fmt.Sprintf("%.1fs", d.Seconds())
}

// until waits until ok, and reports false at the deadline.
func until(deadline time.Time, ok func() bool) bool {
	for !ok() {
		if time.Now().After(deadline) {
			return false
		}

		time.Sleep(20 * ms)
	}

	return true
}

// times records when things were first and last seen.
type times struct {
	mu          sync.Mutex
	first, last map[string]time.Time
}

func newTimes() *times {
	return &times{first: map[string]time.Time{}, last: map[string]time.Time{}}
}

func (x *times) see(what string) {
	x.mu.Lock()
	defer x.mu.Unlock()

	now := time.Now()
	x.last[what] = now

	if x.first[what].IsZero() {
		x.first[what] = now
	}
}

// since returns the time from start until each of some things had been seen,
// and the number of things that were not seen. If any was not seen, the time is
// never.
func (x *times) since(start time.Time, all ...string) (took time.Duration, missing int) {
	x.mu.Lock()
	defer x.mu.Unlock()

	for _, what := range all {
		if at, ok := x.first[what]; ok {
			took = max(took, at.Sub(start))
		} else {
			missing++
		}
	}

	if missing > 0 {
		took = never
	}

	return took, missing
}
