package listwatch

import (
	"fmt"
	"time"
)

const (
	// minPatience is the silence after which a watch is asked for a sign of life soon after trouble, and maxPatience the
	// same in peace. In between, it is asked after as long a silence as there has been peace.
	minPatience = 4 * time.Second
	maxPatience = 30 * time.Second
	// unansweredAfter is how long requests for progress may go unanswered before etcd itself is read.
	unansweredAfter = 4 * time.Second
	// answerWithin is how long a watch has for a progress notification once etcd has moved on.
	answerWithin = 2 * time.Second
	// probeEvery is the time between two probes of a range whose watch answers no request for progress.
	probeEvery = 8 * time.Second
)

var errSilent = fmt.Errorf("the watch did not answer for %v though etcd has moved on", answerWithin)

// signs decides when a watch owes a sign of life, and how it is asked for.
//
// A silent watch is asked for a progress notification. etcd sends none while any watch of the stream begins at a
// revision to come, so on an etcd where nobody writes there may be none. Then a read finds out whether etcd has moved
// on. As long as it has not, a watch can have missed nothing, and only the read is repeated. Once etcd has reached the
// revisions that all watches of the stream began at, it owes an answer, and the watch is asked again. If none comes, the
// range is probed. A watch that has sent such notifications before, and sends none now, is dead. One that has never sent
// any is behind etcd's gRPC proxy, which knows no such requests, and its range is probed from then on.
type signs struct {
	// often says that etcd may become another one unseen: the watch is asked as often in peace as after trouble.
	often bool
	// beside is what etcd's answers take on their way, beside the times above.
	beside time.Duration

	troubleAt  time.Time // when there was trouble last, or the watch was opened: since then there is peace
	heardAt    time.Time // the last sign of life
	answerBy   time.Time // when the watch must have answered, for etcd has moved on; zero: it need not
	owedFrom   int64     // ... and the highest revision that a watch of its stream had begun at when that was found
	answers    bool      // the watch has answered a request for progress
	noProgress bool      // it does not answer any, though etcd has moved on
	quiet      bool      // the last sign of life was that etcd has not moved on
}

// begin notes that the watch was opened.
func (s *signs) begin(now time.Time) {
	*s = signs{often: s.often, beside: s.beside, troubleAt: now, heardAt: now}
}

// trouble notes that the watch has lost its connection, or may be on another etcd than before. A sign of life is due now.
func (s *signs) trouble(now time.Time) {
	s.troubleAt, s.quiet, s.answerBy = now, false, time.Time{}
	s.heardAt = now.Add(-minPatience)
	if s.noProgress {
		s.heardAt = now.Add(-probeEvery)
	}
}

// suspect reports whether there has been no sign of life since there was trouble.
func (s *signs) suspect() bool { return s.heardAt.Before(s.troubleAt) }

// heard notes an answer of the watch, which may be a progress notification.
func (s *signs) heard(progress bool, now time.Time) {
	s.heardAt, s.answerBy, s.quiet = now, time.Time{}, false
	if progress {
		s.answers, s.noProgress = true, false
	}
}

// still notes that etcd has not moved on, as was read at the given time.
func (s *signs) still(at time.Time) { s.heardAt, s.quiet = at, true }

// movedOn notes that etcd has moved on, and reached the highest revision that a watch of the stream began at, so that it
// owes an answer.
func (s *signs) movedOn(latest int64, now time.Time) {
	s.quiet, s.owedFrom, s.answerBy = false, latest, now.Add(answerWithin+s.beside)
}

// probed notes that the watch has missed nothing of an etcd at a revision. An error means that it is dead all the same:
// it owes an answer.
func (s *signs) probed(revision, latest int64, now time.Time) error {
	owed := !s.answerBy.IsZero()
	s.heardAt, s.answerBy = now, time.Time{}
	switch {
	case s.noProgress:
	case revision < latest:
		s.quiet = true
	case !owed || latest != s.owedFrom: // a watch that began meanwhile has kept etcd from answering
		s.movedOn(latest, now)
	case s.answers:
		return errSilent
	default:
		s.noProgress = true
	}
	return nil
}

// patience returns the silence after which a sign of life is due.
func (s *signs) patience() time.Duration {
	if s.often {
		return minPatience
	}
	return min(max(s.heardAt.Sub(s.troubleAt), minPatience), maxPatience)
}

// due returns when a sign of life is due, and the call that asks for it.
func (s *signs) due(now time.Time) (at time.Time, by call) {
	at = s.heardAt.Add(s.patience())
	switch {
	case s.noProgress:
		return s.heardAt.Add(probeEvery), callProbe
	case now.Before(s.answerBy):
		return now, callProgress
	case !s.answerBy.IsZero():
		return s.answerBy, callProbe
	case s.quiet:
		return at, callHead
	}
	if unanswered := at.Add(unansweredAfter + s.beside); !now.Before(unanswered) {
		return unanswered, callHead
	}
	return at, callProgress
}
