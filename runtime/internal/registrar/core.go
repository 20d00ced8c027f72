package registrar

import (
	"errors"
	"fmt"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// phase is the phase of a server.
type phase int

const (
	idle       phase = iota // takes services
	announcing              // its entries are going into etcd
	serving                 // its entries are in etcd, or were and are being put back
	withdrawn               // serves without entries
	draining                // is ending: first its entries leave, then its calls
	stopped                 // has ended
)

func (p phase) String() string {
	return [...]string{"idle", "announcing", "serving", "withdrawn", "draining", "stopped"}[p]
}

// event is what happens to a server.
type event int

const (
	announce event = iota // Announce is called
	serve                 // Serve is called
	placed                // the entries are in etcd, save those that are not healthy
	failed                // the entries cannot be announced, or not in time
	withdraw              // Withdraw is called, or the registry closes
	end                   // Serve is to end
	drained               // Serve has ended
)

func (e event) String() string {
	return [...]string{"announce", "serve", "placed", "failed", "withdraw", "end", "drained"}[e]
}

// effect is a set of things to do because of an event.
type effect int

const (
	unfollow effect = 1 << iota // the run ends, and with it the calls that wait for it and the following of health
	drop                        // take the entries out of etcd
)

// transition leads from one phase to the next.
type transition struct {
	from   phase
	on     event
	to     phase
	effect effect
}

// transitions are all changes of phase. Elsewhere announce and serve are errors, and other events change
// nothing.
var transitions = []transition{
	{idle, announce, announcing, 0},
	{idle, serve, announcing, 0},
	{announcing, placed, serving, 0},
	{announcing, failed, withdrawn, unfollow | drop},
	{announcing, withdraw, withdrawn, unfollow | drop},
	{announcing, end, draining, unfollow},
	{serving, failed, withdrawn, unfollow | drop},
	{serving, withdraw, withdrawn, unfollow | drop},
	{serving, end, draining, unfollow},
	{withdrawn, announce, announcing, 0},
	{withdrawn, end, draining, 0},
	{draining, withdraw, draining, drop},
	{draining, drained, stopped, 0},
}

// core holds the entries that a server publishes, and its phase.
type core struct {
	phase   phase
	round   int // counts the announcements, so that events of an earlier one change nothing
	entries []Entry
	health  []healthcheck.Health // of the entries, in this round
	faults  []error              // of methods that cannot return them
}

// takes reports whether there is an announcement to come, which takes what is published.
func (c *core) takes() bool { return c.phase == idle || c.phase == withdrawn }

// publish adds an entry to announce. Services of one key are one entry.
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

// begin opens a round, on announce or serve.
func (c *core) begin(on event) error {
	if _, ok := c.next(on); !ok {
		return c.refusal(on)
	}
	c.step(on)
	c.round++
	c.health = make([]healthcheck.Health, len(c.entries))
	return nil
}

// refusal returns why announce or serve is an error in this phase.
func (c *core) refusal(on event) error {
	switch {
	case c.phase == draining:
		return errors.New("the server is draining")
	case c.phase == stopped:
		return errors.New("the server has been served: make another for another listener")
	case on == serve && c.phase == withdrawn:
		return errors.New("the server has been announced before: Serve is for one that has not")
	default:
		return errors.New("the server is announced already")
	}
}

func (c *core) next(on event) (transition, bool) {
	i := slices.IndexFunc(transitions, func(t transition) bool { return t.from == c.phase && t.on == on })
	if i < 0 {
		return transition{}, false
	}
	return transitions[i], true
}

// step takes in an event.
func (c *core) step(on event) effect {
	t, ok := c.next(on)
	if !ok {
		return 0
	}
	c.phase = t.to
	return t.effect
}

// stepRound takes in an event of a round, unless there is a later round.
func (c *core) stepRound(round int, on event) effect {
	if round != c.round {
		return 0
	}
	return c.step(on)
}

// live reports whether the entries of a round are wanted in etcd.
func (c *core) live(round int) bool {
	return round == c.round && (c.phase == announcing || c.phase == serving)
}

// hear takes in the health of an entry, and reports whether it counts.
func (c *core) hear(round, entry int, h healthcheck.Health) bool {
	if !c.live(round) {
		return false
	}
	c.health[entry] = h
	return true
}

// paused reports whether an entry is to be out of etcd because it is not healthy.
func (c *core) paused(entry int) bool { return !c.health[entry].OK }

// observe takes in the states of the entries, and reports whether all are in etcd.
func (c *core) observe(round int, states []lease.State) (registered bool) {
	if !c.live(round) {
		return false
	}
	registered = len(states) == len(c.entries)
	asWanted := registered
	for i, state := range states {
		registered = registered && state == lease.Registered
		asWanted = asWanted && (state == lease.Registered || state == lease.Paused && c.paused(i))
	}
	if asWanted {
		c.step(placed)
	}
	return registered
}

// serviceNames returns the names of the services of each entry.
func serviceNames(entries []Entry) [][]string {
	all := make([][]string, len(entries))
	for i, e := range entries {
		all[i] = e.Services
	}
	return all
}
