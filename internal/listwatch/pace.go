package listwatch

import "time"

// maxPause is the longest pause between two updates.
const maxPause = 500 * time.Millisecond

// Pause returns how long to wait after an update that took so long and gathered so many changes. After one change it is as long as
// the update took, so whoever waits for each change before the next one is not held up. It grows with the square of the changes:
// where they come faster than updates pass them on, more and more are gathered. A rollout of 3,000 endpoints makes 5 updates (not squared: 13).
func Pause(took time.Duration, changes int) time.Duration {
	changes = min(changes, 1000) // against overflow
	return min(min(took, maxPause)*time.Duration(changes*changes), maxPause)
}
