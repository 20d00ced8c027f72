package lease

import "time"

// run makes the calls to etcd, one at a time, until the session ends.
func (s *Session) run() {
	defer close(s.done)
	defer s.wg.Wait()
	defer s.cancel()
	if s.opts.Reconnected != nil {
		defer s.opts.Reconnected(s.reconnected)()
	}
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		op, wait, finished := s.next()
		if finished || s.ctx.Err() != nil {
			s.end()
			return
		}
		if op != nil {
			s.do(op)
			continue
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-s.ctx.Done():
		}
	}
}

func (s *Session) next() (op, time.Duration, bool) {
	s.mu.Lock()
	op, wait := s.core.next(time.Now())
	finished := s.core.finished()
	s.renewLeases(s.core.inUse(time.Now()))
	s.watchKeys()
	s.mu.Unlock()
	s.tellCandidates() // before op is sent: who no longer leads hears of it before etcd does
	s.report()
	return op, wait, finished
}

// end closes the entries that are left.
func (s *Session) end() {
	s.mu.Lock()
	s.renewLeases(nil)
	s.core.end(time.Now())
	s.mu.Unlock()
	s.report()
}

// locked calls f with the lock held.
func (s *Session) locked(f func(c *core, now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.core, time.Now())
}

// tellCandidates tells the entries' candidates what has changed for them.
func (s *Session) tellCandidates() {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	changed := s.core.candidacies(time.Now())
	s.mu.Unlock()
	for _, t := range changed {
		t.tell(t.Candidacy)
	}
}
