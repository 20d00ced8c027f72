package scenarios

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

const (
	turnCalls = 100            // that are measured
	turnWarm  = turnCalls / 10 // that come before, lest a turn pay for the pause before it
)

// inTurns has peers take turns of some hundred calls. Those of one program take them in one process, which serves the
// calls, too. The values of a process are named by peer and metric.
func (b *bench) inTurns(ctx context.Context, role, c string, peers []string, turns int, metrics ...string) error {
	etcd, err := startEtcd(b.dir)
	if err != nil {
		return err
	}
	defer etcd.close()
	for round := range b.Rounds {
		values, err := b.takeTurns(ctx, params{
			Role: role, Peers: peers, Endpoints: etcd.endpoints(), Turns: turns, First: round,
		})
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		for _, peer := range peers {
			own := make(map[string]float64)
			for _, name := range metrics {
				own[name] = values[peer+" "+name]
			}
			b.record(c, peer, round, own)
		}
		if err := etcd.clear(ctx); err != nil {
			return err
		}
	}
	return nil
}

// takeTurns starts the processes of a round, tells each when it is its turn, and returns what they have measured.
func (b *bench) takeTurns(ctx context.Context, p params) (map[string]float64, error) {
	procs := make([]*proc, len(p.Peers)) // by peer
	var all []*proc
	for i, peer := range p.Peers {
		if j := slices.IndexFunc(p.Peers[:i], func(other string) bool { return sameProgram(other, peer) }); j >= 0 {
			procs[i] = procs[j]
			continue
		}
		p.Peer = peer
		child, err := b.spawnTo(p, "ready", patience)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", peer, err)
		}
		defer child.end()
		procs[i], all = child, append(all, child)
	}
	for _, i := range turnOrder(len(p.Peers), p.Turns, p.First) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := procs[i].tell(); err != nil {
			return nil, err
		}
		if err := procs[i].await("taken", patience); err != nil {
			return nil, fmt.Errorf("%s: %w", p.Peers[i], err)
		}
	}
	values := make(map[string]float64)
	for _, child := range all {
		own, err := child.values(patience)
		if err != nil {
			return nil, err
		}
		maps.Copy(values, own)
	}
	return values, nil
}

// turnOrder returns who of n is next, until each has had so many turns. Each time round begins with another one, and the
// first with the given one.
func turnOrder(n, turns, first int) []int {
	order := make([]int, 0, n*turns)
	for turn := range turns {
		for i := range n {
			order = append(order, (i+turn+first)%n)
		}
	}
	return order
}

// turns is what the calls of one peer took.
type turns struct {
	wall, cpu, mallocs, bytes []float64 // µs, µs, number and KB of one call, by turn
}

// takeTurns makes the calls of the peers that are in this process, each when the parent says that it is its turn.
func (c *child) takeTurns(calls map[string]func() error) (map[string]*turns, error) {
	all := make(map[string]*turns)
	for peer := range calls {
		all[peer] = &turns{}
	}
	word := "ready"
	for _, i := range turnOrder(len(c.Peers), c.Turns, c.First) {
		peer := c.Peers[i]
		if !sameProgram(peer, c.Peer) {
			continue
		}
		if err := c.meet(word); err != nil {
			return nil, err
		}
		if err := all[peer].take(calls[peer]); err != nil {
			return nil, fmt.Errorf("%s: %w", peer, err)
		}
		word = "taken"
	}
	fmt.Println(word)
	return all, nil
}

// take makes the calls of a turn, and notes what one took.
func (t *turns) take(call func() error) error {
	for range turnWarm {
		if err := call(); err != nil {
			return err
		}
	}
	before := used()
	for range turnCalls {
		if err := call(); err != nil {
			return err
		}
	}
	after := used()
	t.wall = append(t.wall, us(after.at.Sub(before.at))/turnCalls)
	t.cpu = append(t.cpu, us(after.cpu-before.cpu)/turnCalls)
	t.mallocs = append(t.mallocs, float64(after.mallocs-before.mallocs)/turnCalls)
	t.bytes = append(t.bytes, float64(after.allocated-before.allocated)/1e3/turnCalls)
	return nil
}
