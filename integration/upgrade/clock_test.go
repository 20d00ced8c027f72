//go:build skewed

package upgrade

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Signals set the wall clock, of a process whose package time has Jump: see
// tools/upgrade.
func init() {
	jumps := make(chan os.Signal, 1)
	signal.Notify(jumps, syscall.SIGUSR1, syscall.SIGUSR2)

	go func() {
		for s := range jumps {
			if s == syscall.SIGUSR1 {
				time.Jump(time.Hour)
			} else {
				time.Jump(-time.Hour)
			}
		}
	}()
}
