//go:build race

package balancer

// underRace reports whether the race detector is on, under which a sync.Pool drops some of what it is given.
const underRace = true
