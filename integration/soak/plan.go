package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
	launch              // a server starts, at the address that it had before or at another
	kinds
)

func (k kind) String() string {
	return [...]string{"cut", "pause", "halt", "wipe", "compact", "revoke", "delete", "kill", "drain", "start"}[k]
}

// fault is one thing that goes wrong.
type fault struct {
	kind  kind
	after time.Duration // since the start of the storm
	lasts time.Duration // of cut, pause and halt
	on    []int         // members, or servers
	moved bool          // of launch: to another address
}

func (f fault) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%v", f.kind)
	switch f.kind {
	case cut, pause, halt:
		fmt.Fprintf(&s, " members %v for %v", f.on, f.lasts)
	case revoke, remove:
		fmt.Fprintf(&s, " of servers %v", f.on)
	case kill, drain, launch:
		fmt.Fprintf(&s, " server %v", f.on[0])
	}
	if f.moved {
		s.WriteString(" at another address")
	}
	return s.String()
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

// next is the next storm: its faults in the order of their times.
func (p *plan) next() []fault {
	var storm []fault
	// One of a kind at the most where the end of one would be the end of another.
	switch p.rng.IntN(5) {
	case 0, 1:
		storm = append(storm, p.onMembers(cut, members, 8*time.Second))
	case 2, 3:
		storm = append(storm, p.onMembers(pause, members, 16*time.Second))
	}
	switch p.rng.IntN(4) {
	case 0, 1:
		storm = append(storm, p.onMembers(halt, 2, 8*time.Second))
	case 2:
		storm = append(storm, p.at(wipe))
	}
	for range p.rng.IntN(4) {
		f := p.at(compact + kind(p.rng.IntN(3)))
		if f.kind != compact {
			f.on = p.some(servers, servers)
		}
		storm = append(storm, f)
	}
	for range 1 + p.rng.IntN(5) {
		storm = append(storm, p.at(kill)) // or what becomes of it below
	}
	slices.SortStableFunc(storm, func(a, b fault) int { return int(a.after - b.after) })
	return p.assign(storm)
}

// assign decides, in the order of time, what happens to which server.
func (p *plan) assign(storm []fault) []fault {
	up, down := p.servers()
	p.rng.Shuffle(len(up), func(i, j int) { up[i], up[j] = up[j], up[i] })
	up = up[spared:]
	var assigned []fault
	for _, f := range storm {
		if f.kind != kill {
			assigned = append(assigned, f)
			continue
		}
		switch {
		case len(down) > 0 && (len(up) == 0 || p.rng.IntN(10) < 2+len(down)):
			i := p.rng.IntN(len(down))
			f.kind, f.on, f.moved = launch, []int{down[i]}, p.rng.IntN(2) == 0
			down = slices.Delete(down, i, i+1)
		case len(up) > 0:
			f.kind, f.on = kill+kind(p.rng.IntN(2)), []int{up[0]}
			down, up = append(down, up[0]), up[1:]
		default:
			continue
		}
		p.up[f.on[0]] = f.kind == launch
		assigned = append(assigned, f)
	}
	return assigned
}

// servers are those that run and those that do not.
func (p *plan) servers() (up, down []int) {
	for i := range p.up {
		if p.up[i] {
			up = append(up, i)
		} else {
			down = append(down, i)
		}
	}
	return up, down
}

func (p *plan) at(k kind) fault {
	return fault{kind: k, after: p.within(stormLength)}
}

// onMembers is a fault of at most so many members that lasts for at most so long.
func (p *plan) onMembers(k kind, most int, longest time.Duration) fault {
	f := p.at(k)
	f.on = p.some(members, most)
	f.lasts = 500*time.Millisecond + p.within(longest)
	return f
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
