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
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
)

// election is that of the shop's leader: it knows which lives stand and lead, and judges that no two do.
type election struct {
	*record.Record

	mu    sync.Mutex
	lives []*candidate  // that stand, in the order of their beginnings
	ended time.Time     // when one of them last did
	told  time.Time     // when the store was last told that etcd was restored or wiped
	store *leader.Fence // that all leaders write to
}

// resigned reports a life whose function for the leader runs when its candidate goes.
func (e *election) resigned(token int64) {
	for _, c := range e.standing() {
		if c.runs() == token && !e.Pardoned() {
			e.Report(check.Leads, "the candidate of %s is gone, and its function for the leader runs with the token %d", c.id, token)
		}
	}
}

// standing returns the lives that stand.
func (e *election) standing() []*candidate {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lives)
}

// last returns when a life that stood last ended.
func (e *election) last() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ended
}

// lookAtLeaders reports lives that say that they lead when the first candidate in etcd is another's, or another says so, too.
// Others change while it looks, so only what a life says before and after counts.
func (e *election) lookAtLeaders() {
	if e.Pardoned() {
		return
	}
	leads := make(map[*candidate]int64)
	for _, c := range e.standing() {
		token := c.leadsWith()
		if token == 0 {
			continue
		}
		first, _ := e.FirstCandidate()
		if c.leadsWith() == token && first.Create != token && !e.Pardoned() {
			e.Report(check.Leads, "%s says that it leads with the token %d, and the first candidate in etcd is %+v", c.id, token, first)
		}
		leads[c] = token
	}
	for c, token := range leads {
		others := slices.DeleteFunc(e.standing(), func(other *candidate) bool { return other == c || other.leadsWith() == 0 })
		if c.leadsWith() == token && len(others) > 0 && !e.Pardoned() {
			e.Report(check.Leads, "%s and %s say at the same time that they lead", c.id, others[0].id)
		}
	}
}

// lookAtTerms reports lives whose function for the leader goes on when they no longer lead.
func (e *election) lookAtTerms() {
	for _, c := range e.standing() {
		token := c.runs()
		if token == 0 || c.leadsWith() == token {
			continue
		}
		time.Sleep(time.Nanosecond) // until what happens at this instant has happened
		if c.runs() == token && c.leadsWith() != token {
			e.Report(check.Leads, "%s no longer leads with the token %d, and the context that Run gave has not ended", c.id, token)
		}
	}
}

// steady returns the life that has led since a time, as far as a reader whose way to etcd was free all the time can know,
// "" if there is none. Callers find the leader by its entry: one that somebody deletes, or overwrites, leads all the same,
// and cannot put the entry back while it does not reach etcd.
func (e *election) steady(reader int, since time.Time) string {
	at := since.Sub(e.Began)
	if at < 0 || e.DisturbedSince(reader, at) || e.changed(since) || e.Pardoned() {
		return ""
	}
	for _, c := range e.standing() {
		if c.runs() != 0 && c.began().Before(since) && c.shown(since) {
			return c.id
		}
	}
	return ""
}

// changed reports whether a candidate has changed since a time.
func (e *election) changed(since time.Time) bool {
	return slices.ContainsFunc(e.Since(since), func(c etcd.Change) bool { return strings.HasPrefix(c.Key, acme.Candidates) })
}

// candidate is the part of a life of a server in the election.
type candidate struct {
	election *election
	id       string
	server   int                        // its index
	shown    func(since time.Time) bool // reports whether etcd has shown its entry to callers since a time
	secure   func(since time.Time) bool // reports whether nothing since a time is a reason for it to lead no longer
	ending   departure                  // of the life, for good
	running  *task                      // Leadership.Run; nil: it does not stand

	mu    sync.Mutex
	leads *leader.Leadership // nil: it does not stand, or has ended
	term  context.Context    // given by Run last; nil: none
	token int64              // of that term
	since time.Time          // when that term began
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
			c.election.Report(check.Led, "Run of %s returned while it served: %v", c.id, err)
		}
		return err
	})
}

// end notes that the life has ended: what is left of it reaches nobody.
func (c *candidate) end() {
	c.mu.Lock()
	c.leads, c.term = nil, nil
	c.mu.Unlock()
	e := c.election
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = time.Now()
	e.lives = slices.DeleteFunc(e.lives, func(other *candidate) bool { return other == c })
}

// runEnds is how long Run may take to return once its context has ended and the registry is closed.
const runEnds = time.Second

// wait waits until Run is over. How it ended does not matter.
func (c *candidate) wait() {
	began := time.Now()
	_ = c.running.wait()
	c.election.Bound(context.Background(), began, "Leadership.Run after its context's end", c.id, runEnds)
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
	if c.term == nil || c.term.Err() != nil {
		return 0
	}
	return c.token
}

// began returns when the last term began.
func (c *candidate) began() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since
}

const (
	// writes is how long a leader waits between writes to the store.
	writes = 300 * time.Millisecond
	// straggles is how long after its leadership the last one arrives there.
	straggles = 700 * time.Millisecond
)

// lead is what a leader does: it writes to the store, and once more when it no longer leads.
func (c *candidate) lead(ctx context.Context, token int64) error {
	c.mu.Lock()
	if c.leads != nil {
		c.term, c.token, c.since = ctx, token, time.Now()
	}
	c.mu.Unlock()
	e := c.election
	e.Note("%s leads with the token %d", c.id, token)
	for _, other := range e.standing() {
		if running := other.runs(); other != c && running != 0 && !e.Pardoned() {
			e.Report(check.Leads, "the leader's function runs on %s, and on %s with the token %d", c.id, other.id, running)
		}
	}
	e.lookAtLeaders()
	for ctx.Err() == nil {
		c.write(token)
		select {
		case <-ctx.Done():
		case <-time.After(writes):
		}
	}
	if left, _ := c.ending.begun(); left.IsZero() && !errors.Is(context.Cause(ctx), leader.ErrEnded) {
		e.Report(check.Leads, "the leadership of %s has ended, and its context says %v", c.id, context.Cause(ctx))
	}
	if left, _ := c.ending.begun(); left.IsZero() && c.secure(time.Now().Add(-keptWithin)) {
		e.Report(check.Stays, "%s leads no longer with the token %d, for no reason: %v", c.id, token, context.Cause(ctx))
	}
	e.Note("%s leads no longer with the token %d: %v", c.id, token, context.Cause(ctx))
	time.Sleep(straggles)
	c.write(token)
	if token%2 == 0 {
		return context.Cause(ctx) // as most functions do
	}
	return nil
}

// serves judges that the life serves a call that is for the leader with a token, with which it then writes to the store.
func (c *candidate) serves(ctx context.Context) {
	e := c.election
	tokens := metadata.ValueFromIncomingContext(ctx, leader.TokenHeader)
	token, err := strconv.ParseInt(strings.Join(tokens, " "), 10, 64)
	if err != nil {
		e.Report(check.Guarded, "%s serves a call for the leader with the tokens %q", c.id, tokens)
		return
	}
	e.lookAtLeaders()
	if c.leadsWith() != token && !e.changed(time.Now()) && !e.Pardoned() {
		e.Report(check.Guarded, "%s serves a call for the leader with the token %d, and has %d", c.id, token, c.leadsWith())
	}
	c.write(token)
}

// untold reports whether the store is to be told now that etcd was restored or wiped, so that revisions may repeat: while not all have heard of that, and
// where it was not told since.
func (e *election) untold(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.RepeatedSince(now.Add(-record.HeardOfReset)) && !e.RepeatedSince(e.told) {
		return false
	}
	e.told = now
	return true
}

// write writes to the store with a token, unless the life has ended, and has the judge hear of it. A store that is told of a
// restored etcd takes any token.
func (c *candidate) write(token int64) {
	c.mu.Lock()
	ended := c.leads == nil
	c.mu.Unlock()
	if ended {
		return
	}
	e := c.election
	restored := e.untold(time.Now())
	before, taken := c.leadsWith(), true
	e.Observe(func(j *check.Judge) {
		if restored {
			e.store = new(leader.Fence)
			j.Restored()
			return
		}
		taken = e.store.Admit(token) == nil
		j.Write(time.Now(), c.id, token, taken)
	})
	if !taken && before == token && c.leadsWith() == token && !e.Pardoned() && !c.back(token) {
		e.Report(check.Fenced, "the store has refused a write of %s, which leads with the token %d", c.id, token)
	}
}

// back reports whether the candidate with a token may be back from a backup unseen: the server may not have heard that it was gone.
func (c *candidate) back(token int64) bool {
	return c.election.Older(token) && c.election.HamperedSince(c.server, 0)
}
