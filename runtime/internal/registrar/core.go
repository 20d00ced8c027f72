package registrar

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
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

// core decides which entries one server publishes, and when they are in etcd.
type core struct {
	phase   phase
	faults  []error // errors of methods that cannot return them
	entries []publishedEntry
	run     int // the number of the last announcement, 0 before the first
}

// publishedEntry is an entry without its address, and its health in the last
// announcement.
type publishedEntry struct {
	Entry
	health healthcheck.Health
	warned bool // a fault of the health service was logged
}

// event is an event of a server.
type event struct {
	kind kind

	// the number of the announcement that the event belongs to; 0 if a method
	// of the server caused it
	run int

	// for withdraw, end and drained: the error that waiting callers return
	why error

	entry  int                // for heard: the index of the entry
	health healthcheck.Health // for heard
}

type kind int

const (
	announce kind = iota // Announce is called
	serve                // Serve is called
	located              // the address of the entries is known, and their first health
	heard                // the health of an entry is known
	withdraw             // Withdraw is called, or the entries cannot be announced
	end                  // the context of Serve ends, or the gRPC server fails
	drained              // Serve returns
)

// effects are what the shell does after an event.
type effects struct {
	place bool // place the entries, each paused if it is unhealthy

	// pause or resume the event's entry, by its health, if it was placed
	pause bool

	warn string // log the fault of the health service of the entry with this key
	end  bool   // end the announcement: ignore its events, and end its waits

	// drop the placed entries, and wait until those of all announcements are
	// out of etcd
	drop bool
}

// step handles an event, unless the event's announcement has ended. For
// announce and serve, it returns an error if no announcement can begin.
func (c *core) step(e event) (do effects, err error) {
	if e.kind == announce || e.kind == serve {
		return do, c.begin(e.kind)
	}

	if c.run == 0 {
		return do, nil // nothing was announced yet
	}

	// an event of an announcement comes too late once that has ended
	ended := e.run != c.run || c.phase != announced
	if e.run != 0 && ended {
		return do, nil
	}

	switch e.kind {
	case located:
		do.place = true
	case heard:
		entry := &c.entries[e.entry]
		entry.health = e.health
		do.pause = true

		if e.health.Problem != "" && !entry.warned {
			entry.warned = true
			do.warn = entry.Key
		}

	case withdraw:
		do.end = true
		do.drop = true

		if c.phase == announced {
			c.phase = withdrawn
		}

	case end:
		do.end = true

		if c.phase == announced || c.phase == withdrawn {
			c.phase = draining
		}

	case drained:
		do.end = true

		if c.phase == draining {
			c.phase = stopped
		}
	}

	return do, nil
}

// begin begins an announcement.
func (c *core) begin(on kind) error {
	if len(c.faults) > 0 {
		return errors.Join(c.faults...)
	}

	if !c.accepts() || on == serve && c.phase != idle {
		return fmt.Errorf(
			"etcd: the server is %s: Serve needs a server that is idle, Announce one that is idle or withdrawn; make another server if this one has stopped",
			c.phase)
	}

	c.phase = announced
	c.run++

	for i, e := range c.entries {
		c.entries[i] = publishedEntry{Entry: e.Entry}
	}

	return nil
}

// registered reports whether the server is announced and all of its entries are
// in etcd. states yields the states of the placed entries. registered runs at
// each change of a state, so it stops at the first entry that is not in etcd.
func (c *core) registered(states iter.Seq[lease.State]) bool {
	n := 0
	for state := range states {
		n++

		if state != lease.Registered {
			return false
		}
	}

	return c.phase == announced && n == len(c.entries)
}

// accepts reports whether services can be published for the next announcement.
func (c *core) accepts() bool {
	return c.phase == idle || c.phase == withdrawn
}

// fault records an error of a method that cannot return errors, and reports
// whether the next announcement returns it.
func (c *core) fault(err error) bool {
	if c.accepts() {
		c.faults = append(c.faults, err)
	}

	return c.accepts()
}

// publish adds an entry to announce. Services of one key share an entry.
func (c *core) publish(e Entry, d Details) error {
	name := e.Services[0]
	if !c.accepts() {
		return fmt.Errorf(
			"service %s is published after the server was announced: publish first", name)
	}

	if slices.Contains(c.services(), name) {
		return fmt.Errorf("service %s is published twice", name)
	}

	for i := range c.entries {
		other := &c.entries[i].Entry
		if other.Key == e.Key {
			joined, err := other.join(e, d)
			*other = joined

			return err
		}

		if err := overlap(&e, other); err != nil {
			return fmt.Errorf("services %s and %s: %w", other.Services[0], name, err)
		}
	}

	c.entries = append(c.entries, publishedEntry{Entry: e})

	return nil
}

// services returns the names of the published services.
func (c *core) services() (names []string) {
	for _, e := range c.entries {
		names = append(names, e.Services...)
	}

	return names
}
