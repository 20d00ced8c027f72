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
// A silent watch is asked for a progress notification. On an etcd where nobody writes there may be none: etcd sends
// none while any watch of the stream starts at a revision to come. So if none comes, a read finds out whether etcd
// has moved on. As long as it has not, a watch can have missed nothing, and only the read is repeated. Once it has,
// the range is probed, and the watch is asked again. One that has sent such notifications before, and sends none now,
// is dead. One that has never sent any is behind etcd's gRPC proxy, which knows no such requests, and its range is
// probed from then on.
type signs struct {
	// often says that etcd may become another one unseen: the watch is asked as often in peace as after trouble.
	often bool

	troubleAt  time.Time // when there was trouble last, or the watch was opened: since then there is peace
	heardAt    time.Time // the last sign of life
	answerBy   time.Time // when the watch must have answered, for etcd has moved on; zero: it need not
	answers    bool      // the watch has answered a request for progress
	noProgress bool      // it does not answer any, though etcd has moved on
	quiet      bool      // the last sign of life was that etcd has not moved on
}

// begin notes that the watch was opened.
func (s *signs) begin(now time.Time) { *s = signs{often: s.often, troubleAt: now, heardAt: now} }

// trouble notes that the watch has lost its connection, or may be on another etcd than before. A sign of life is due now.
func (s *signs) trouble(now time.Time) {
	s.troubleAt, s.quiet = now, false
	s.heardAt = now.Add(-minPatience)
	if s.noProgress {
		s.heardAt = now.Add(-probeEvery)
	}
}

// heard notes an answer of the watch, which may be a progress notification.
func (s *signs) heard(progress bool, now time.Time) {
	s.heardAt, s.answerBy, s.quiet = now, time.Time{}, false
	if progress {
		s.answers, s.noProgress = true, false
	}
}

// still notes that etcd has not moved on, as was read at the given time.
func (s *signs) still(at time.Time) { s.heardAt, s.quiet = at, true }

// probed notes that the watch has missed nothing.
func (s *signs) probed(now time.Time) { s.heardAt = now }

// movedOn notes that etcd has moved on, so that the watch has a reason to answer.
func (s *signs) movedOn(now time.Time) { s.quiet, s.answerBy = false, now.Add(answerWithin) }

// patience returns the silence after which a sign of life is due.
func (s *signs) patience() time.Duration {
	if s.often {
		return minPatience
	}
	return min(max(s.heardAt.Sub(s.troubleAt), minPatience), maxPatience)
}

// due returns when a sign of life is due, and the call that asks for it. An error means that the watch is dead.
func (s *signs) due(now time.Time) (at time.Time, by call, err error) {
	if !s.answerBy.IsZero() {
		switch {
		case now.Before(s.answerBy):
			return now, callProgress, nil
		case s.answers:
			return now, callProgress, errSilent
		}
		s.noProgress, s.answerBy = true, time.Time{}
	}
	if s.noProgress {
		return s.heardAt.Add(probeEvery), callProbe, nil
	}
	at = s.heardAt.Add(s.patience())
	switch {
	case s.quiet:
		return at, callHead, nil
	case now.Before(at.Add(unansweredAfter)):
		return at, callProgress, nil
	}
	return at.Add(unansweredAfter), callHead, nil
}
