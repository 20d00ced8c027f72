package main

import (
	"context"
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
	heardAt time.Time // when it was dialed or given up, since heard was last asked; zero: not yet
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

// heard returns when the address of interest was dialed or given up, if it was since the last call.
func (s *silence) heard() (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, s.heardAt = s.heardAt, time.Time{}
	return at, !at.IsZero()
}
