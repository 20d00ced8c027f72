package harness

import "time"

const (
	// sampling is how often it is looked whether etcd has what servers want there, and what they say of it.
	sampling = 250 * time.Millisecond
	// keptWithin is how soon a server that can reach etcd puts right what is wrong there.
	keptWithin = 3 * time.Second
)

// lasting keeps since when things have been wrong, by what is wrong and where.
type lasting map[string]time.Time

// tooLong reports whether something has been wrong for longer than a server needs to put it right. It reports that once.
func (l lasting) tooLong(what string, wrong bool) bool { return l.longer(keptWithin, what, wrong) }

// longer reports whether something has been wrong for longer than a time. It reports that once.
func (l lasting) longer(than time.Duration, what string, wrong bool) bool {
	since, ok := l[what]
	switch {
	case !wrong:
		delete(l, what)
	case !ok:
		l[what] = time.Now()
	case !since.IsZero() && time.Since(since) > than+sampling:
		l[what] = time.Time{}
		return true
	}
	return false
}

// forget forgets all that has been wrong.
func (l lasting) forget() { clear(l) }
