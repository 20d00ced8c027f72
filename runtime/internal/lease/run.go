package lease

import (
	"context"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
)

// Start puts an entry in etcd in the background, or only stores it if pause is set. It takes over an existing
// key: this process is the newer one.
func (s *Session) Start(items []Item, pause bool) (*Handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closing {
		return nil, ErrClosed
	}
	e := s.core.add(time.Now(), items, pause)
	if !s.started {
		s.started = true
		go s.run()
	}
	s.poke()
	s.wg.Go(s.report)
	return &Handle{s, e}, nil
}

// Close takes everything out of etcd by revoking the lease, and returns when that is done. If ctx ends or 5 s
// pass first, the error names the lease that is left to expire. The session has stopped in either case.
func (s *Session) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, CloseTimeout)
	defer cancel()
	if !s.close() {
		return nil
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		s.cancel()
		bounded.Wait(ctx, s.done)
	}
	why := s.explained(context.Cause(ctx))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closeErr == nil {
		s.closeErr = s.core.leftover(why)
	}
	return s.closeErr
}

// Finish is Close without a bound: it returns when everything is out of etcd, or when the session is closed.
func (s *Session) Finish() error {
	if !s.close() {
		return nil
	}
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeErr
}

// close begins to take everything out of etcd, and reports whether Close must wait.
func (s *Session) close() bool {
	s.mu.Lock()
	if !s.core.closing {
		close(s.closed)
	}
	s.core.close(time.Now())
	started := s.started
	s.poke()
	s.mu.Unlock()
	if !started {
		s.cancel()
	}
	return started
}

// run makes the calls to etcd, one at a time, until the session ends.
func (s *Session) run() {
	defer close(s.done)
	defer s.wg.Wait()
	defer s.group.Close()
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
	s.renewLeases(s.core.inUse())
	s.watchKeys()
	s.mu.Unlock()
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
