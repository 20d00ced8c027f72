package schedule

import "fmt"

// The addresses of hosts. The regions have networks of their own, and reach each other.

// region returns the third part of the addresses of a region.
func (s Schedule) region() int {
	if s.Away {
		return 1
	}
	return 0
}

// MemberHost returns the host of a member of etcd.
func (s Schedule) MemberHost(member int) string {
	return fmt.Sprintf("10.1.%d.%d", s.region(), member+1)
}

// MemberAddr returns the address of a member of etcd.
func (s Schedule) MemberAddr(member int) string { return s.MemberHost(member) + ":2379" }

// Host returns the host of a process.
func (s Schedule) Host(process int) string {
	return fmt.Sprintf("10.2.%d.%d", s.region(), process+1)
}

// firstLife plus a life is the network that the life dials from.
const firstLife = 100

// DialHost returns the host that a life of a process dials from. Each life has its own, so that a dead one can be cut off for
// good.
func (s Schedule) DialHost(process, life int) string {
	return fmt.Sprintf("10.%d.%d.%d", firstLife+life, s.region(), process+1)
}

// ProcessAt returns the process that dials from a host, -1 if there is none in the region.
func (s Schedule) ProcessAt(host string) int {
	var life, region, process int
	if n, err := fmt.Sscanf(host, "10.%d.%d.%d", &life, &region, &process); n != 3 || err != nil || life <= firstLife || region != s.region() {
		return -1
	}
	return process - 1
}
