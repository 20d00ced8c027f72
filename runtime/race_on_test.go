//go:build race

package runtime

// underRace reports whether the race detector is on, under which a sync.Pool drops some of what it is given.
const underRace = true
