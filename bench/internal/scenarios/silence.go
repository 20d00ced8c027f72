package scenarios

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// silence stands for the network to any number of endpoints, of which none answers: whoever dials waits until he gives
// up. That takes no descriptor and no server's time.
type silence struct {
	mu      sync.Mutex
	dialing int
	of      string    // the address that heard is about
	heardAt time.Time // when it was dialed or given up, since forget; zero: not yet
}

// dial is for grpc.WithContextDialer.
func (s *silence) dial(ctx context.Context, addr string) (net.Conn, error) {
	s.note(addr, 1)
	defer s.note(addr, -1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s *silence) note(addr string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialing += n
	if addr == s.of && s.heardAt.IsZero() {
		s.heardAt = time.Now()
	}
}

// connections returns how many are being made.
func (s *silence) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialing
}

// forget forgets what was heard of the address of interest.
func (s *silence) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heardAt = time.Time{}
}

// hear returns when the address of interest was dialed or given up first since forget, for which it waits.
func (s *silence) hear(limit time.Duration) (at time.Time, err error) {
	for began := time.Now(); time.Since(began) < limit; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		at = s.heardAt
		s.mu.Unlock()
		if !at.IsZero() {
			return at, nil
		}
	}
	return at, fmt.Errorf("%s was neither dialed nor given up within %v", s.of, limit)
}
