package harm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// client is one of the two clients that a row compares, and its counts.
type client struct {
	tally
	conns  []grpc.ClientConnInterface // one for all kinds of calls, or one for each kind
	say    func(ctx context.Context, kind int) context.Context
	next   atomic.Int64 // number of the next call
	owners []string     // names of the servers to which the kinds belong, if way.owned
}

func newClient(w *world) *client {
	c := &client{}
	c.swallow = w.swallow
	c.dialed = map[string]bool{}
	c.causes = map[string]int{}
	c.by = map[string]int{}

	return c
}

// call makes call i and returns the name of the server that answered.
func (c *client) call(ctx context.Context, w *world, i int) (who string, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.calls.deadline)
	defer cancel()

	kind := i % w.way.kinds
	if c.say != nil {
		ctx = c.say(ctx, kind)
	}

	counter := leaderpb.NewCounterClient(c.conns[kind%len(c.conns)])
	method := counter.Peek
	if w.way.leader {
		method = counter.Add
	}

	reply, err := method(ctx, &leaderpb.AddRequest{}, grpc.WaitForReady(w.calls.wait))

	return reply.GetServer(), err
}

// warm makes calls until each kind was answered once, and so many that the
// client connects to all servers.
func (c *client) warm(w *world) {
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()

	for i := range max(w.way.kinds, 2*min(len(w.servers), 20)) {
		for ctx.Err() == nil {
			who, err := c.call(ctx, w, i)
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}

			if w.way.owned && i < w.way.kinds {
				c.owners = append(c.owners, who)
			}

			break
		}
	}
}

// run makes and counts calls until the world's context ends. It does not count
// the call under way at that time.
func (c *client) run(w *world) {
	tick := time.NewTicker(w.calls.every)
	defer tick.Stop()

	for w.ctx.Err() == nil {
		i := int(c.next.Add(1))
		who, err := c.call(w.ctx, w, i)
		if w.ctx.Err() == nil {
			c.count(who, err, c.right(w, i, who))
		}

		select {
		case <-tick.C:
		case <-w.ctx.Done():
		}
	}
}

// right reports whether the server named who may answer call i.
func (c *client) right(w *world, i int, who string) bool {
	kind := i % w.way.kinds

	switch {
	case w.way.owned:
		return kind >= len(c.owners) || who == c.owners[kind]
	case w.way.allowed != nil:
		return slices.ContainsFunc(w.servers, func(s *server) bool {
			return s.name == who && w.lists[kind].allowed[s]
		})
	}

	return true
}

// tally holds the counts of one client.
type tally struct {
	mu                       sync.Mutex
	calls, failed, misrouted int
	causes                   map[string]int  // number of failed or misrouted calls, by cause
	by                       map[string]int  // number of answered calls, by server
	swallow                  int             // how many of the first dialed addresses drop SYNs
	dialed                   map[string]bool // whether each dialed address drops SYNs
	dials, open, most        int             // number of dials, open connections, and their maximum
	done                     bool            // whether counting has stopped
}

// dialing counts a dial, and reports whether the address drops SYNs.
func (t *tally) dialing(addr string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	if !t.done {
		t.dials++
	}

	if _, again := t.dialed[addr]; !again && t.dialed != nil {
		t.dialed[addr] = len(t.dialed) < t.swallow
	}

	return t.dialed[addr]
}

func (t *tally) hold(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.open += n

	if !t.done {
		t.most = max(t.most, t.open)
	}
}

// end stops the counting.
func (t *tally) end() {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.done = true
}

func (t *tally) count(who string, err error, right bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	t.calls++

	if err == nil {
		t.by[who]++
	}

	switch {
	case err != nil:
		t.failed++
		cause := status.Convert(err)
		t.causes[fmt.Sprintf("%v: %.200s", cause.Code(), cause.Message())]++

	case !right:
		t.misrouted++
		t.causes["answered by "+who]++
	}
}

// add adds the counts of o to t.
func (t *tally) add(o *tally) {
	t.calls += o.calls
	t.failed += o.failed
	t.misrouted += o.misrouted
	t.dials += o.dials
	t.most = max(t.most, o.most)

	if t.causes == nil {
		t.causes = map[string]int{}
	}

	for cause, n := range o.causes {
		t.causes[cause] += n
	}
}

// served reports whether the named server has answered calls.
func (t *tally) served(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	return t.by[name] > 0
}

// lost returns the number and the share of the calls that failed or reached a
// wrong server.
func (t *tally) lost() (int, float64) {
	n := t.failed + t.misrouted
	return n, float64(n) / float64(max(t.calls, 1))
}

func (t *tally) String() string {
	_, share := t.lost()
	s := fmt.Sprintf("%5d calls %5.1f %% failed", t.calls,
		100*float64(t.failed)/float64(max(t.calls, 1)))
	if t.misrouted > 0 {
		s += fmt.Sprintf(" (%.1f %% with misrouted)", 100*share)
	}

	return s + fmt.Sprintf(", %d connections, %d dials", t.most, t.dials)
}

// why returns the three most frequent causes.
func (t *tally) why() string {
	causes := slices.SortedFunc(maps.Keys(t.causes), func(a, b string) int {
		return t.causes[b] - t.causes[a]
	})

	var b strings.Builder
	for _, cause := range causes[:min(3, len(causes))] {
		fmt.Fprintf(&b, "\n\t%d x %s", t.causes[cause], cause)
	}

	return b.String()
}

// noise is the margin for lost calls and for served calls, in calls.
const noise = 5

// luck is the relative margin for lost calls, whose number depends on the
// random lengths of a few outages.
const luck = 0.2

// worse describes which counts of our client are worse. It compares connections
// and dials only if ofAll is set, that is, if gRPC's client also
// knows all servers.
func worse(us, them *tally, ofAll bool) []string {
	var in []string

	lost, share := us.lost()
	theirs, theirShare := them.lost()

	if float64(lost) > (theirShare*(1+luck)+0.03)*float64(us.calls)+noise {
		in = append(in, fmt.Sprintf("loses %.1f %% of the calls, gRPC's own %.1f %%", 100*share,
			100*theirShare))
	}

	served := us.calls - lost
	theirServed := them.calls - theirs

	if float64(served) < 0.8*float64(theirServed)-noise {
		in = append(in, fmt.Sprintf("serves %d calls, gRPC's own %d", served, theirServed))
	}

	if ofAll && us.most > 3*them.most+3 {
		in = append(in, fmt.Sprintf("holds %d connections, gRPC's own %d", us.most, them.most))
	}

	if ofAll && us.dials > 3*them.dials+20 {
		in = append(in, fmt.Sprintf("makes %d dials, gRPC's own %d", us.dials, them.dials))
	}

	return in
}
