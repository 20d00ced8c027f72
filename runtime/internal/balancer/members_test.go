package balancer

import (
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc/resolver"
)

// TestMembersAreThoseOfTheLastList compares a set that follows changes with one made anew. Two endpoints share an
// address.
func TestMembersAreThoseOfTheLastList(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	all := bigFleet(10)
	all = append(all, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address(all[4])}}})
	var m members
	var old []resolver.Endpoint
	m.has("") // has it count
	for range 500 {
		next := slices.DeleteFunc(slices.Clone(all), func(resolver.Endpoint) bool { return random.IntN(3) == 0 })
		gone := m.replace(next)
		for i := range all {
			addr := address(all[i])
			has := func(set []resolver.Endpoint) bool {
				return slices.ContainsFunc(set, func(ep resolver.Endpoint) bool { return address(ep) == addr })
			}
			if m.has(addr) != has(next) {
				t.Fatalf("%s: %v, want %v", addr, m.has(addr), has(next))
			}
			if left := has(old) && !has(next); slices.Contains(gone, addr) != left {
				t.Fatalf("%s is among the gone %q: want %v", addr, gone, left)
			}
		}
		old = next
	}
}
