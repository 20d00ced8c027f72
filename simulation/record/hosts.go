package record

import "fmt"

// Each life of a process dials from a host of its own, so that a dead one can be cut off for good.

// firstLife is added to a life for the network that it dials from.
const firstLife = 100

// DialHost returns the host that a life of a process dials from.
func DialHost(index, life int) string { return fmt.Sprintf("10.%d.0.%d", firstLife+life, index+1) }

// ProcessAt returns the index of the process that dials from a host, -1 if there is none.
func ProcessAt(host string) int {
	var life, index int
	if n, err := fmt.Sscanf(host, "10.%d.0.%d", &life, &index); n != 2 || err != nil || life <= firstLife {
		return -1
	}
	return index - 1
}
