package harness

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// election is that of the shop's leader: it knows which lives stand, and has the store that all leaders write to.
type election struct {
	w *world

	mu    sync.Mutex
	lives []*candidate // in the order of their beginnings

	// Under the lock of the world's history:
	store *leader.Fence
	told  int // how many resets of etcd that have revisions repeat the store was told of
}

func newElection(w *world) *election { return &election{w: w, store: new(leader.Fence)} }

// standing returns the lives that stand.
func (e *election) standing() []*candidate {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lives)
}

// leader returns the first life that says that it leads, nil if none does.
func (e *election) leader() *candidate {
	all := e.standing()
	if i := slices.IndexFunc(all, func(c *candidate) bool { return c.leadsWith() != 0 }); i >= 0 {
		return all[i]
	}
	return nil
}

// sampling is how often it is looked at what leaders do.
const sampling = 250 * time.Millisecond

// sample looks again and again for functions of leaders that go on when those no longer lead, until ctx ends.
func (e *election) sample(ctx context.Context) {
	tick := time.NewTicker(sampling)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, c := range e.standing() {
			token := c.runs()
			if token == 0 || c.leadsWith() == token {
				continue
			}
			time.Sleep(time.Nanosecond) // until what happens at this instant has happened
			if c.runs() == token && c.leadsWith() != token {
				e.w.report(check.Leads, "%s no longer leads with the token %d, and the context that Run gave has not ended", c.id, token)
			}
		}
	}
}

// candidate is the part of a life of a server in the election.
type candidate struct {
	election *election
	id       string
	ending   departure // of the life, for good
	running  *task     // Leadership.Run; nil: it does not stand

	mu    sync.Mutex
	leads *leader.Leadership // nil: it does not stand, or has ended
	ctx   context.Context    // of the term that Run gave last; nil: none
	term  *check.Term
}

// start has the life do what a leader does whenever it leads, until ctx ends.
func (c *candidate) start(ctx context.Context, leads *leader.Leadership) {
	c.mu.Lock()
	c.leads = leads
	c.mu.Unlock()
	c.election.mu.Lock()
	c.election.lives = append(c.election.lives, c)
	c.election.mu.Unlock()
	c.running = newTask(func() error {
		err := leads.Run(ctx, c.lead)
		if left, _ := c.ending.begun(); ctx.Err() == nil && left.IsZero() {
			c.election.w.report(check.Returns, "Run of %s returned while it served: %v", c.id, err)
		}
		return err
	})
}

// end notes that the life has ended: what is left of it reaches nobody.
func (c *candidate) end() {
	c.endTerm()
	c.mu.Lock()
	c.leads, c.ctx = nil, nil
	c.mu.Unlock()
	e := c.election
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lives = slices.DeleteFunc(e.lives, func(other *candidate) bool { return other == c })
}

// runEnds is how long Run may take to return once its context has ended and the registry is closed.
const runEnds = time.Second

// wait waits until Run is over. How it ended does not matter.
func (c *candidate) wait() {
	began := time.Now()
	_ = c.running.wait()
	c.election.w.acted(context.Background(), runEnds, check.Act{What: "Leadership.Run after its context's end", Who: c.id, Began: began})
}

// leadsWith returns the token with which the life leads, 0 if it does not.
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

// runs returns the token of the term for which the life's function runs, 0 if none does. A function whose context has ended
// does not count.
func (c *candidate) runs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.ctx.Err() != nil {
		return 0
	}
	return c.term.Token
}

// begin records that a term begins, unless the life has ended.
func (c *candidate) begin(ctx context.Context, token int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leads == nil {
		return
	}
	c.ctx, c.term = ctx, &check.Term{Life: c.id, Token: token, Began: time.Now()}
	c.election.w.record(func(h *check.History) { h.Terms = append(h.Terms, c.term) })
}

// endTerm records that the term has ended, if one goes on.
func (c *candidate) endTerm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.election.w.record(func(*check.History) {
		if c.term != nil && c.term.Ended.IsZero() {
			c.term.Ended = time.Now()
		}
	})
}

const (
	// writes is how long a leader waits between writes to the store.
	writes = 300 * time.Millisecond
	// straggles is how long after its leadership the last one arrives there.
	straggles = 700 * time.Millisecond
)

// lead is what a leader does: it writes to the store, and once more when it no longer leads.
func (c *candidate) lead(ctx context.Context, token int64) error {
	c.begin(ctx, token)
	w := c.election.w
	w.note("%s leads with the token %d", c.id, token)
	for ctx.Err() == nil {
		c.write(token)
		select {
		case <-ctx.Done():
		case <-time.After(writes):
		}
	}
	c.endTerm()
	if left, _ := c.ending.begun(); left.IsZero() && !errors.Is(context.Cause(ctx), leader.ErrEnded) {
		w.report(check.Leads, "the leadership of %s has ended, and its context says %v", c.id, context.Cause(ctx))
	}
	w.note("%s leads no longer with the token %d: %v", c.id, token, context.Cause(ctx))
	time.Sleep(straggles)
	c.write(token)
	if token%2 == 0 {
		return context.Cause(ctx) // as most functions do
	}
	return nil
}

// serves judges that the life serves a call that is for the leader with a token, with which it then writes to the store.
func (c *candidate) serves(ctx context.Context) {
	w := c.election.w
	tokens := metadata.ValueFromIncomingContext(ctx, leader.TokenHeader)
	token, err := strconv.ParseInt(strings.Join(tokens, " "), 10, 64)
	if err != nil {
		w.report(check.Leads, "%s serves a call for the leader with the tokens %q", c.id, tokens)
		return
	}
	if has := c.leadsWith(); has != token && w.calmSince(time.Now().Add(-time.Second)) {
		w.report(check.Leads, "%s serves a call for the leader with the token %d, and has %d", c.id, token, has)
	}
	c.write(token)
}

// write writes to the store with a token, unless the life has ended. A store that is told of a restored etcd takes any token.
func (c *candidate) write(token int64) {
	c.mu.Lock()
	ended := c.leads == nil
	c.mu.Unlock()
	if ended {
		return
	}
	e := c.election
	before := c.leadsWith() == token
	var write *check.Write
	e.w.record(func(h *check.History) { write = e.admit(h, c.id, token) })
	if after := c.leadsWith() == token; write != nil && before && after {
		e.w.record(func(*check.History) { write.Leads = true })
	}
}

// admit writes to the store. After revisions may have begun anew nobody does until all have heard of that, and the store is told.
func (e *election) admit(h *check.History, life string, token int64) *check.Write {
	resets := h.Repeats()
	forgets := resets > e.told
	if forgets && !h.CalmSince(time.Now()) {
		return nil
	}
	if forgets {
		e.store, e.told = new(leader.Fence), resets
	}
	write := &check.Write{At: time.Now(), Life: life, Token: token, Taken: e.store.Admit(token) == nil, Forgets: forgets}
	h.Writes = append(h.Writes, write)
	return write
}
