package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	members = 3
	servers = 10
	clients = 20

	// stormLength is when the last fault of a storm begins at the latest.
	stormLength = 8 * time.Second
	// spared is how many servers that run when a storm begins are not touched in it: those that
	// clients know however cut off from etcd they are.
	spared = 3
)

// kind is what a fault does.
type kind int

const (
	cut     kind = iota // connections to etcd members are reset, for a while
	pause               // ... or become black holes
	halt                // etcd members crash, and come back with their disk
	wipe                // all etcd members lose their disks
	compact             // etcd forgets its history
	revoke              // leases of servers are revoked by hand
	remove              // keys of servers are deleted by hand
	kill                // a server dies without a word
	drain               // a server ends in order
	launch              // a server starts at the address that it had before
	move                // ... or at another
	kinds
)

func (k kind) String() string {
	return [...]string{"cut", "pause", "halt", "wipe", "compact", "revoke", "delete", "kill", "drain", "start", "move"}[k]
}

// fault is one thing that goes wrong.
type fault struct {
	kind  kind
	on    []int         // members, or servers
	after time.Duration // since the start of the storm
	lasts time.Duration // of cut, pause and halt
}

func (f fault) String() string {
	if f.kind <= halt {
		return fmt.Sprintf("%v members %v for %v", f.kind, f.on, f.lasts)
	}
	return fmt.Sprintf("%v %v", f.kind, f.on)
}

// plan makes up storms: the same ones for the same seed.
type plan struct {
	rng *rand.Rand
	up  [servers]bool
}

func newPlan(seed uint64) *plan {
	p := &plan{rng: rand.New(rand.NewPCG(seed, 0))}
	for i := range p.up {
		p.up[i] = true
	}
	return p
}

// next is the next storm: its faults in the order of their times. There is one of a kind at the most where the end of one would
// be the end of another, and one at the most that ends or starts a server.
func (p *plan) next() (storm []fault) {
	add := func(k kind, longest time.Duration, on []int) {
		storm = append(storm, fault{k, on, p.within(stormLength), 500*time.Millisecond + p.within(longest)})
	}
	switch p.rng.IntN(5) {
	case 0, 1:
		add(cut, 8*time.Second, p.some(members, members))
	case 2, 3:
		add(pause, 16*time.Second, p.some(members, members))
	}
	switch p.rng.IntN(4) {
	case 0, 1:
		add(halt, 8*time.Second, p.some(members, 2))
	case 2:
		add(wipe, time.Second, nil)
	}
	for range p.rng.IntN(4) {
		add(compact+kind(p.rng.IntN(3)), time.Second, p.some(servers, servers))
	}
	order := p.rng.Perm(servers)
	running := slices.DeleteFunc(slices.Clone(order), func(i int) bool { return !p.up[i] })
	for _, i := range order {
		switch {
		case !p.up[i] && p.rng.IntN(2) == 0:
			p.up[i] = true
			add(launch+kind(p.rng.IntN(2)), time.Second, []int{i})
		case slices.Index(running, i) >= spared && p.rng.IntN(3) == 0:
			p.up[i] = false
			add(kill+kind(p.rng.IntN(2)), time.Second, []int{i})
		}
	}
	slices.SortStableFunc(storm, func(a, b fault) int { return int(a.after - b.after) })
	return storm
}

func (p *plan) within(d time.Duration) time.Duration {
	return time.Duration(p.rng.Int64N(int64(d/time.Millisecond))) * time.Millisecond
}

// some are one to most of the numbers below n, sorted.
func (p *plan) some(n, most int) []int {
	chosen := p.rng.Perm(n)[:1+p.rng.IntN(most)]
	slices.Sort(chosen)
	return chosen
}
