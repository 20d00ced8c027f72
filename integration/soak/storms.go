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

	// stormLength is the time in which the faults of a storm start.
	stormLength = 8 * time.Second

	// spared is how many of the running servers a storm neither kills nor
	// drains, so that clients that cannot reach etcd still know running
	// servers.
	spared = 3
)

// kind is the type of a fault.
type kind string

const (
	cut   kind = "cut"   // connections to etcd members are cut for a while
	pause kind = "pause" // etcd members become black holes for a while

	halt    kind = "halt"    // etcd members stop for a while, and restart with their disks
	wipe    kind = "wipe"    // all etcd members lose their disks
	compact kind = "compact" // etcd compacts its history
	revoke  kind = "revoke"  // leases of servers are revoked by hand
	remove  kind = "delete"  // keys of servers are deleted by hand
	kill    kind = "kill"    // a server is killed
	drain   kind = "drain"   // a server drains
	launch  kind = "start"   // a server that is down starts at its last address
	move    kind = "move"    // a server that is down starts at another address
)

// fault is one fault of a storm.
type fault struct {
	kind  kind
	on    []int         // indexes of etcd members or of servers, as kind needs
	after time.Duration // from the start of the storm to that of the fault
	lasts time.Duration // length of a cut, pause or halt
}

func (f fault) String() string {
	return fmt.Sprint(f.kind, " ", f.on, " ", f.lasts)
}

// storms generates storms, the same for the same seed.
type storms struct {
	rng  *rand.Rand
	down [servers]bool
}

// next returns the faults of a storm, sorted by their times. A storm has at
// most one cut or pause, and at most one halt or wipe, because the end of one
// could end the other. A storm stops or starts each server at most once.
func (s *storms) next() (storm []fault) {
	add := func(k kind, longest time.Duration, on []int) {
		storm = append(storm, fault{
			kind:  k,
			on:    on,
			after: s.within(stormLength),
			lasts: 500*time.Millisecond + s.within(longest),
		})
	}

	switch s.rng.IntN(5) {
	case 0, 1:
		add(cut, 8*time.Second, s.some(members, members))
	case 2, 3:
		add(pause, 16*time.Second, s.some(members, members))
	}

	switch s.rng.IntN(4) {
	case 0, 1:
		add(halt, 8*time.Second, s.some(members, 2))
	case 2:
		add(wipe, time.Second, nil)
	}

	for range s.rng.IntN(4) {
		add(s.one(compact, revoke, remove), time.Second, s.some(servers, servers))
	}

	running := 0
	for _, i := range s.rng.Perm(servers) {
		if s.down[i] {
			if s.rng.IntN(2) == 0 {
				add(s.one(launch, move), time.Second, []int{i})
				s.down[i] = false
			}

			continue
		}

		running++
		if running > spared && s.rng.IntN(3) == 0 {
			add(s.one(kill, drain), time.Second, []int{i})
			s.down[i] = true
		}
	}

	slices.SortStableFunc(storm, func(a, b fault) int { return int(a.after - b.after) })

	return storm
}

func (s *storms) one(of ...kind) kind {
	return of[s.rng.IntN(len(of))]
}

func (s *storms) within(d time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(d/time.Millisecond))) * time.Millisecond
}

// some returns a sorted random choice of 1 to limit numbers below n.
func (s *storms) some(n, limit int) []int {
	chosen := s.rng.Perm(n)[:1+s.rng.IntN(limit)]
	slices.Sort(chosen)

	return chosen
}
