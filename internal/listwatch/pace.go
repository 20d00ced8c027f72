package listwatch

import "time"

// maxPause is the longest pause between two updates.
const maxPause = 500 * time.Millisecond

// Pause returns the pause after an update with so many changes, which took so long. After one change it equals that time, so that
// changes made one after the other are not delayed. It grows with the square of the changes: if they come faster than updates
// pass them on, an update gathers more of them. A rollout of 3,000 endpoints makes 5 updates (not squared: 13).
func Pause(took time.Duration, changes int) time.Duration {
	changes = min(changes, 1000) // against overflow
	return min(min(took, maxPause)*time.Duration(changes*changes), maxPause)
}
