package harness

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// candidates returns the candidates for the shop's leader, including ended
// ones.
func (w *world) candidates() []*candidate {
	var all []*candidate
	for _, s := range w.allServers() {
		s.mu.Lock()
		all = append(all, s.candidate)
		s.mu.Unlock()
	}

	return all
}

// leader returns the first candidate that claims to lead, or nil.
func (w *world) leader() *candidate {
	for _, c := range w.candidates() {
		if c.leadsWith() != 0 {
			return c
		}
	}

	return nil
}

// sampling is the interval between checks of the leaders.
const sampling = 250 * time.Millisecond

// sample checks until ctx ends that no function of a leader runs after the
// leadership.
func (w *world) sample(ctx context.Context) {
	for pause(ctx, sampling) {
		for _, c := range w.candidates() {
			token := c.runs()
			if token == 0 || c.leadsWith() == token {
				continue
			}

			time.Sleep(time.Nanosecond) // until all events of this instant have happened

			if c.runs() == token && c.leadsWith() != token {
				w.report(check.Leads,
					"%s no longer leads with the token %d, but the context of Run has not ended",
					c.id, token)
			}
		}
	}
}

// candidate is the election part of a server's incarnation.
type candidate struct {
	w       *world
	id      string      // the id of the incarnation
	name    string      // the instance id
	ending  atomic.Bool // the incarnation is ending
	running *task       // Leadership.Run, or nil if the server is not a candidate

	mu    sync.Mutex
	leads *leader.Leadership // nil if the server is not a candidate, or has ended
	ctx   context.Context    // the context of the last term of Run, or nil
	term  *check.Term
}

// start runs the leader's work whenever the incarnation leads, until ctx ends.
func (c *candidate) start(ctx context.Context, leads *leader.Leadership) {
	c.mu.Lock()
	c.leads = leads
	c.mu.Unlock()

	c.running = newTask(func() error {
		err := leads.Run(ctx, c.lead)

		if ctx.Err() == nil && !c.ending.Load() {
			c.w.report(check.Returns, "Run of %s returned %v while the server served",
				c.id, err)
		}

		return err
	})
}

// end records the end of the incarnation. Its later terms and writes are not
// recorded.
func (c *candidate) end() {
	c.endTerm()

	c.mu.Lock()
	defer c.mu.Unlock()

	c.leads = nil
	c.ctx = nil
}

// runEnds bounds the return of Run after its context has ended and the registry
// is closed.
const runEnds = time.Second

// wait waits for the end of Run, if the incarnation is a candidate, and ignores
// its error.
func (c *candidate) wait() {
	if c.running == nil {
		return
	}

	act := check.Act{
		What:    "Leadership.Run after its context's end",
		Who:     c.id,
		Longest: runEnds,
	}

	ends := func(context.Context) error {
		_ = c.running.wait()
		return nil
	}

	_ = c.w.act(context.Background(), act, ends, nil)
}

// leadsWith returns the token of the present leadership, or 0.
func (c *candidate) leadsWith() int64 {
	c.mu.Lock()
	leads := c.leads
	c.mu.Unlock()

	if leads == nil {
		return 0
	}

	token, _ := leads.Token()

	return token
}

// runs returns the token of the term whose function runs with a context that
// has not ended, or 0.
func (c *candidate) runs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.ctx == nil || c.ctx.Err() != nil {
		return 0
	}

	return c.term.Token
}

// begin records the start of a term, unless the incarnation has ended.
func (c *candidate) begin(ctx context.Context, token int64) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.leads == nil {
		return
	}

	c.ctx = ctx
	c.term = &check.Term{Incarnation: c.id, Token: token, Began: time.Now()}
	c.w.record(func(h *check.History) { h.Terms = append(h.Terms, c.term) })
}

// endTerm records the end of the term, if there is one.
func (c *candidate) endTerm() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.w.record(func(*check.History) {
		if c.term != nil && c.term.Ended.IsZero() {
			c.term.Ended = time.Now()
		}
	})
}

const (
	// betweenWrites is a leader's pause between writes to the store.
	betweenWrites = 300 * time.Millisecond

	// lastWriteAfter is the delay between the end of a leadership and the
	// leader's last write.
	lastWriteAfter = 700 * time.Millisecond
)

// lead is the work of a leader: it writes to the store during its leadership,
// and once afterwards.
func (c *candidate) lead(ctx context.Context, token int64) error {
	c.begin(ctx, token)
	c.w.note("%s leads with the token %d", c.id, token)

	for ctx.Err() == nil {
		c.write(token)
		pause(ctx, betweenWrites)
	}

	c.endTerm()

	if !c.ending.Load() && !errors.Is(context.Cause(ctx), leader.ErrEnded) {
		c.w.report(check.Leads,
			"cause of the context of %s after its leadership: %v, want leader.ErrEnded",
			c.id, context.Cause(ctx))
	}

	c.w.note("%s leads no longer with the token %d: %v", c.id, token, context.Cause(ctx))

	time.Sleep(lastWriteAfter)
	c.write(token)

	if token%2 == 0 {
		return context.Cause(ctx) // as most users' functions do
	}

	return nil
}

// serves checks that the incarnation leads with the token of a call for the
// leader, and writes to the store with that token.
func (c *candidate) serves(ctx context.Context) {
	tokens := metadata.ValueFromIncomingContext(ctx, leader.TokenHeader)
	token, err := strconv.ParseInt(strings.Join(tokens, " "), 10, 64)
	if err != nil {
		c.w.report(check.Leads,
			"%s serves a call for the leader with the tokens %q, want one token", c.id,
			tokens)

		return
	}

	has := c.leadsWith()
	if has != token && c.w.calmSince(time.Now().Add(-time.Second)) {
		c.w.report(check.Leads,
			"%s serves a call for the leader with the token %d, want %d", c.id, token,
			has)
	}

	c.write(token)
}

// write writes to the store with a token, unless the incarnation has ended.
func (c *candidate) write(token int64) {
	c.mu.Lock()
	ended := c.leads == nil
	c.mu.Unlock()

	if ended {
		return
	}

	write := &check.Write{At: time.Now(), Incarnation: c.id, Token: token}
	before := c.leadsWith() == token
	c.w.record(func(h *check.History) { h.Writes = append(h.Writes, write) })
	after := c.leadsWith() == token

	if before && after {
		c.w.record(func(*check.History) { write.Leads = true })
	}
}
