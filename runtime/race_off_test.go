//go:build !race

package runtime

// underRace reports whether the race detector runs.
const underRace = false
