package runtime

import (
	"internal/runtime/atomic"
	_ "unsafe" // for linkname
)

// skew is how the clocks of this process differ from the machine's. Both clocks
// run at a rate from its start on.
var skew struct {
	mono, wall int64 // the machine's clocks at the start; zero before setSkew
	rate       int64 // in thousandths
	stands     bool  // the monotonic clock stands still while the process is stopped

	last atomic.Int64 // the monotonic clock when it was read last, without rate
	lost atomic.Int64 // how long it stood still
	jump atomic.Int64 // of the wall clock, in nanoseconds
}

//go:linkname setSkew time.setSkew
func setSkew(rate int64, stands bool) {
	sec, nsec, mono := realnow()
	skew.rate = rate
	skew.stands = stands
	skew.last.Store(mono)
	skew.wall = sec*1e9 + int64(nsec)
	skew.mono = mono
}

//go:linkname jumpWall time.jumpWall
func jumpWall(d int64) {
	skew.jump.Add(d)
}

// realnow is time.now of the machine.
func realnow() (sec int64, nsec int32, mono int64)

//go:linkname time_now time.now
func time_now() (sec int64, nsec int32, mono int64) {
	sec, nsec, mono = realnow()
	if skew.mono == 0 {
		return sec, nsec, mono
	}

	ns := sec*1e9 + int64(nsec)
	ns = skew.wall + (ns-skew.wall)*skew.rate/1000 + skew.jump.Load()

	return ns / 1e9, int32(ns % 1e9), skewed(mono)
}

// skewed returns the monotonic clock of this process.
//
//go:nosplit
func skewed(mono int64) int64 {
	if skew.mono == 0 {
		return mono
	}

	for {
		lost := skew.lost.Load()
		now := mono - lost
		last := skew.last.Load()
		if gap := now - last; skew.stands && gap > 3e9 {
			skew.lost.CompareAndSwap(lost, lost+gap)
			continue
		}

		if now > last {
			skew.last.CompareAndSwap(last, now)
		}

		return skew.mono + (now-skew.mono)*skew.rate/1000
	}
}
