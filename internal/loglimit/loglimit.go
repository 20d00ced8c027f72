// Package loglimit bounds how often one source is logged, so that a writer of
// keys in etcd cannot fill the logs of their readers.
package loglimit

import "time"

const (
	burst = 5                // the number of lines that a source may log at once
	every = 10 * time.Second // the interval of later lines
)

// Limiter decides which lines of one source are logged: 5 at once, then one
// every 10 s. It holds no lock and reads no clock. The zero value is ready for
// use.
type Limiter struct {
	full   time.Time // when burst lines may be logged at once again
	missed int       // lines left out since the last logged one
}

// Allow reports whether a line may be logged now, and how many were left out
// since the last allowed one.
func (l *Limiter) Allow(now time.Time) (ok bool, missed int) {
	full := l.full
	if full.Before(now) {
		full = now
	}

	if full.Sub(now) > (burst-1)*every {
		l.missed++
		return false, 0
	}

	missed = l.missed
	l.missed = 0
	l.full = full.Add(every)

	return true, missed
}

// Attrs returns the attributes of an allowed line: args, and the number of
// lines left out before it.
func Attrs(missed int, args ...any) []any {
	if missed == 0 {
		return args
	}

	return append(args, "not_logged", missed)
}
