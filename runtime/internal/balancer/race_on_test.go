//go:build race

package balancer

// underRace reports whether the race detector is on, under which a sync.Pool drops some items.
const underRace = true
