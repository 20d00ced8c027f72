package registrar

import (
	"errors"
	"fmt"
	"slices"
)

// phase is the phase of a server.
type phase int

const (
	idle      phase = iota // accepts services
	announced              // its entries are in etcd, or are being written
	withdrawn              // serves without entries
	draining               // its entries are removed first, then its calls end
	stopped                // has ended
)

func (p phase) String() string {
	return [...]string{"idle", "announced", "withdrawn", "draining", "stopped"}[p]
}

// event is an event of a server.
type event int

const (
	announce event = iota // Announce is called
	serve                 // Serve is called
	withdraw              // Withdraw is called, or the entries cannot be announced
	end                   // the context of Serve ends, or the gRPC server fails
	drained               // Serve returns
)

// change is an event that a server has in a phase.
type change struct {
	from phase
	on   event
}

// transitions are all changes of phase. In phases without an entry here, announce and serve are errors, and other events do nothing.
var transitions = map[change]phase{
	{idle, announce}:      announced,
	{idle, serve}:         announced,
	{announced, withdraw}: withdrawn,
	{announced, end}:      draining,
	{withdrawn, announce}: announced,
	{withdrawn, end}:      draining,
	{draining, drained}:   stopped,
}

// core holds the entries that a server publishes, and its phase.
type core struct {
	phase   phase
	entries []Entry
	faults  []error // errors of methods that cannot return them
}

// takes reports whether services can be published for the next announcement.
func (c *core) takes() bool { return c.phase == idle || c.phase == withdrawn }

// publish adds an entry to announce. Services of one key share an entry.
func (c *core) publish(e Entry, d Details) error {
	name := e.Services[0]
	if !c.takes() {
		return fmt.Errorf("service %s is published after the server was announced: publish first", name)
	}
	for _, other := range c.entries {
		if slices.Contains(other.Services, name) {
			return fmt.Errorf("service %s is published twice", name)
		}
	}
	for i := range c.entries {
		other := &c.entries[i]
		if other.Key == e.Key {
			joined, err := other.join(e, d)
			c.entries[i] = joined
			return errors.Join(err, joined.electable())
		}
		if err := overlap(&e, other); err != nil {
			return fmt.Errorf("services %s and %s: %w", other.Services[0], name, err)
		}
	}
	c.entries = append(c.entries, e)
	return e.electable()
}

// services returns the names of the published services.
func (c *core) services() (names []string) {
	for _, e := range c.entries {
		names = append(names, e.Services...)
	}
	return names
}

// begin begins an announcement, on announce or serve.
func (c *core) begin(on event) error {
	if len(c.faults) > 0 {
		return errors.Join(c.faults...)
	}
	if _, ok := transitions[change{c.phase, on}]; !ok {
		return fmt.Errorf("etcd: the server is %s: Serve needs a server that is idle, Announce one that is idle or withdrawn; make another server if this one has stopped", c.phase)
	}
	c.step(on)
	return nil
}

// step handles an event.
func (c *core) step(on event) {
	if to, ok := transitions[change{c.phase, on}]; ok {
		c.phase = to
	}
}
