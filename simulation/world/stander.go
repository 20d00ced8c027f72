package world

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// stander is the part of a life of a server in the election of the shop's leader.
type stander struct {
	process
	id      string
	running *errand // Leadership.Run; nil: it does not stand

	mu    sync.Mutex
	leads *leader.Leadership // nil: it does not stand, or has ended
	term  context.Context    // given by Run last; nil: none
	token int64              // of that term
	since time.Time          // when that term began
}

func newStander(p *process, id string) *stander { return &stander{process: *p, id: id} }

// start has the life do what a leader does whenever it leads, until ctx ends.
func (s *stander) start(ctx context.Context, leads *leader.Leadership) {
	s.mu.Lock()
	s.leads = leads
	s.mu.Unlock()
	s.w.stand(s)
	s.running = newErrand(func() error {
		err := leads.Run(ctx, s.lead)
		if ctx.Err() == nil {
			s.w.report(check.Led, "Run of %s returned while it served: %v", s.id, err)
		}
		return err
	})
}

// end notes that the life has ended: what is left of it reaches nobody.
func (s *stander) end() {
	s.mu.Lock()
	s.leads, s.term = nil, nil
	s.mu.Unlock()
	s.w.sit(s)
}

// runEnds is how long Run may take to return once its context has ended and the registry is closed.
const runEnds = time.Second

// wait waits until Run is over. How it ended does not matter.
func (s *stander) wait() {
	began := time.Now()
	_ = s.running.wait()
	s.bound(context.Background(), began, "Leadership.Run after its context's end", runEnds)
}

// now returns the token with which the life leads, 0 if it does not.
func (s *stander) now() int64 {
	s.mu.Lock()
	leads := s.leads
	s.mu.Unlock()
	if leads == nil {
		return 0
	}
	token, _ := leads.Token()
	return token
}

// runs returns the token of the term for which the life's function runs, 0 if none does. A function whose context has ended
// does not count.
func (s *stander) runs() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil || s.term.Err() != nil {
		return 0
	}
	return s.token
}

// began returns when the last term began.
func (s *stander) began() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since
}

const (
	// writes is how long a leader waits between writes to the store.
	writes = 300 * time.Millisecond
	// straggles is how long after its leadership the last one arrives there.
	straggles = 700 * time.Millisecond
)

// lead is what a leader does: it writes to the store, and once more when it no longer leads.
func (s *stander) lead(ctx context.Context, token int64) error {
	s.mu.Lock()
	if s.leads != nil {
		s.term, s.token, s.since = ctx, token, time.Now()
	}
	s.mu.Unlock()
	s.w.note("%s leads with the token %d", s.id, token)
	s.w.lookForOthers(s)
	s.w.lookAtLeaders()
	for ctx.Err() == nil {
		s.write(token)
		select {
		case <-ctx.Done():
		case <-time.After(writes):
		}
	}
	s.w.note("%s leads no longer with the token %d: %v", s.id, token, context.Cause(ctx))
	time.Sleep(straggles)
	s.write(token)
	return nil
}

// serves is called when the life serves a call for the leader.
func (s *stander) serves(ctx context.Context) {
	tokens := metadata.ValueFromIncomingContext(ctx, leader.TokenHeader)
	token, err := strconv.ParseInt(strings.Join(tokens, " "), 10, 64)
	if err != nil {
		s.w.report(check.Guarded, "%s serves a call for the leader with the tokens %q", s.id, tokens)
		return
	}
	s.w.servesAs(s, token)
	s.write(token)
}

// write writes to the store, unless the life has ended.
func (s *stander) write(token int64) {
	s.mu.Lock()
	ended := s.leads == nil
	s.mu.Unlock()
	if !ended {
		s.w.writeAs(s, token)
	}
}
