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

	// stormLength bounds the start of the last fault of a storm.
	stormLength = 8 * time.Second
	// spared is the number of running servers without faults in a storm, so that clients that are
	// cut off from etcd know some that run.
	spared = 3
)

// kind is the type of a fault.
type kind string

const (
	cut     kind = "cut"     // connections to etcd members are reset, for a while
	pause   kind = "pause"   // connections to etcd members become black holes, for a while
	halt    kind = "halt"    // etcd members crash, and come back with their disk
	wipe    kind = "wipe"    // all etcd members lose their disks
	compact kind = "compact" // etcd forgets its history
	revoke  kind = "revoke"  // leases of servers are revoked by hand
	remove  kind = "delete"  // keys of servers are deleted by hand
	kill    kind = "kill"    // a server is killed
	drain   kind = "drain"   // a server drains
	launch  kind = "start"   // a server starts at its last address
	move    kind = "move"    // a server starts at another address
)

// fault is one injected fault.
type fault struct {
	kind  kind
	on    []int         // members, or servers
	after time.Duration // since the start of the storm
	lasts time.Duration // of cut, pause and halt
}

func (f fault) String() string { return fmt.Sprint(f.kind, " ", f.on, " ", f.lasts) }

// plan generates storms. The same seed gives the same storms.
type plan struct {
	rng  *rand.Rand
	down [servers]bool
}

func newPlan(seed uint64) *plan { return &plan{rng: rand.New(rand.NewPCG(seed, 0))} }

// next returns the faults of the next storm in the order of their times. A storm has at most one cut, one
// pause and one halt, as their ends would overlap, and at most one fault that stops or starts a server.
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
		add(p.one(compact, revoke, remove), time.Second, p.some(servers, servers))
	}
	running := 0
	for _, i := range p.rng.Perm(servers) {
		switch ran := !p.down[i]; {
		case !ran && p.rng.IntN(2) == 0:
			add(p.one(launch, move), time.Second, []int{i})
			p.down[i] = false
		case ran:
			if running++; running > spared && p.rng.IntN(3) == 0 {
				add(p.one(kill, drain), time.Second, []int{i})
				p.down[i] = true
			}
		}
	}
	slices.SortStableFunc(storm, func(a, b fault) int { return int(a.after - b.after) })
	return storm
}

func (p *plan) one(of ...kind) kind { return of[p.rng.IntN(len(of))] }

func (p *plan) within(d time.Duration) time.Duration {
	return time.Duration(p.rng.Int64N(int64(d/time.Millisecond))) * time.Millisecond
}

// some returns between 1 and limit of the numbers below n, sorted.
func (p *plan) some(n, limit int) []int {
	chosen := p.rng.Perm(n)[:1+p.rng.IntN(limit)]
	slices.Sort(chosen)
	return chosen
}
