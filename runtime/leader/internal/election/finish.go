package election

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
)

// CallHeader is the request metadata with the id of a leader call. By it, a caller distinguishes a refusal of its own call from a
// refusal that was passed on.
const CallHeader = "etcd-leader-call"

// NestedHeader is the request metadata of calls that the handler of a leader call makes with its context: the ids of the leader call and
// of those that it is nested in. A leader that resigns waits for their handlers, so it must not refuse the calls that these wait for.
const NestedHeader = "etcd-leader-nested"

// maxNested bounds the ids. The nearest ones stay.
const maxNested = 8

// Mark adds the nested header to the calls made with ctx if ctx is from the handler of a leader call, or of a call that has the header.
func Mark(ctx context.Context) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx)
	ids := sent[NestedHeader]
	for _, name := range [...]string{CallHeader, NestedHeader} {
		for _, id := range metadata.ValueFromIncomingContext(ctx, name) {
			if len(ids) < maxNested && !slices.Contains(ids, id) {
				ids = append(ids, id)
				ctx = metadata.AppendToOutgoingContext(ctx, NestedHeader, id)
			}
		}
	}
	return ctx
}

// Header returns the value of a header of the call that ctx is from, "" if it has none.
func Header(ctx context.Context, name string) string {
	return strings.Join(metadata.ValueFromIncomingContext(ctx, name), "")
}

// group counts calls under way.
type group struct {
	n    int           // the calls, 1 while Enter admits further ones, and 1 for an earlier group with calls
	idle chan struct{} // closed when n is 0
	next *group        // the later group that counts this one; may be nil
}

// call is a call under way.
type call struct {
	*group
	endStream func() // ends the context of a stream that Guard admitted; nil for other calls
}

// Enter is Lead for a call, whose context is parent. Finish and Resign wait for the call, unless its handler calls them with the
// call's metadata. They make Enter refuse calls, or streams wait, for a while, unless the caller is the handler of a call under way, and may
// end a stream.
func (e *Election) Enter(parent context.Context, token int64, stream bool) (ctx context.Context, done context.CancelFunc, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g, id := e.admitted(parent, token, stream), Header(parent, CallHeader)
	if g != nil {
		ctx, done, ok = e.lead(parent, token)
	}
	if !ok {
		return nil, nil, false
	}
	if id == "" || e.underWay[id].group != nil { // the call of another client, or repeated by gRPC
		id = rand.Text()
	}
	g.add(1)
	c := call{group: g}
	if stream {
		c.endStream = e.contexts[e.lastID] // from lead
	}
	e.underWay[id] = c
	stop := context.AfterFunc(parent, func() { e.exit(id) }) // nobody waits for the reply of a call that has ended
	end := done
	return Mark(metadata.AppendToOutgoingContext(ctx, NestedHeader, id)), func() {
		if end(); stop() {
			e.exit(id)
		}
	}, true
}

// admitted returns the group of a call, nil to refuse it. A call under way, and one nested in it, is admitted at once. A stream waits until
// calls are admitted, the term with token has ended, or ctx ends. Other calls do not: waiting, they could fill the server's limits, so that
// a nested call could not begin. admitted must be called with mu held, which it releases while it waits.
func (e *Election) admitted(ctx context.Context, token int64, stream bool) *group {
	for e.opened != nil && token == e.token {
		for _, id := range append(metadata.ValueFromIncomingContext(ctx, NestedHeader), Header(ctx, CallHeader)) {
			if c := e.underWay[id]; c.group != nil {
				return c.group
			}
		}
		opened := e.opened
		e.mu.Unlock()
		admits := stream && wait(ctx, opened, finishTimeout)
		if e.mu.Lock(); !admits {
			return nil
		}
	}
	return e.group
}

// exit makes Finish and Resign no longer wait for a call.
func (e *Election) exit(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.underWay[id]; c.group != nil {
		delete(e.underWay, id)
		c.add(-1)
	}
}

func (g *group) add(n int) {
	if g.n += n; g.n > 0 {
		return
	}
	if close(g.idle); g.next != nil {
		g.next.add(-1)
	}
}

// Finish is like End, but first waits for calls as Resign does.
func (e *Election) Finish(ctx context.Context) error {
	defer e.End()
	e.mu.Lock()
	token := e.token
	e.mu.Unlock()
	return e.finish(ctx, token)
}

// Resign waits until no call is under way, for at most finishTimeout, and then ends the leadership with token. It returns an error if
// ctx ends first. The instance stands again as the last candidate. A later leadership, which may have begun by then, goes on.
func (e *Election) Resign(ctx context.Context, token int64) error {
	err := e.finish(ctx, token)
	e.event(func(now time.Time) effects { return e.core.resign(now, token) })
	return err
}

// finishing begins to finish the calls of the present term. It returns the context for that, which ends with parent, with the term, or
// when the calls are cut. It must be called with mu held.
func (e *Election) finishing(parent context.Context) (term context.Context, done func()) {
	timeout := finishTimeout
	if !e.core.wanted {
		timeout = lastClose // calls no longer reach this leader, nor yet another
	}
	bound, cancel := context.WithTimeout(parent, timeout)
	term, end := e.inTerm(bound)
	e.isFinishing = true
	return term, func() { cancel(); end() }
}

// giveWay resigns in the background, unless takeBack is called before the calls have ended. It must be called with mu held.
func (e *Election) giveWay(token int64) {
	ctx, cancel := context.WithCancel(e.ctx)
	term, done := e.finishing(ctx)
	e.takeBack = func() {
		cancel()
		e.admit(true)
		e.isFinishing, e.takeBack = false, func() {}
	}
	e.tasks.Go(func() {
		defer done()
		e.endCalls(term) // the callers of unfinished calls get an error
		e.event(func(now time.Time) effects {
			if ctx.Err() != nil { // by takeBack
				return e.core.tick(now)
			}
			return e.core.resign(now, token)
		})
		cancel()
	})
}

func (e *Election) finish(ctx context.Context, token int64) error {
	md, _ := metadata.FromOutgoingContext(Mark(ctx))
	for _, id := range md[NestedHeader] {
		e.exit(id) // the handler of this call waits for finish
	}
	e.mu.Lock()
	if token == 0 || token != e.token {
		e.mu.Unlock()
		return nil
	}
	first := !e.isFinishing
	term, done := e.finishing(ctx)
	defer done()
	e.takeBack = func() {} // the term ends in any case
	e.mu.Unlock()
	if first {
		e.endCalls(term)
	} else {
		<-term.Done()
	}
	if ctx.Err() != nil {
		return fmt.Errorf("calls for the leader were under way when it resigned: %w", context.Cause(ctx))
	}
	return nil
}

// endCalls makes Enter refuse calls, and waits until none is under way. A call may last, or wait for a call that Enter refuses. So
// Enter soon admits calls again until the earlier ones have ended. Then endCalls tries again, and at last for longer. Before a
// last try that is not the first, it ends streams, which may have no end of their own.
func (e *Election) endCalls(term context.Context) {
	end, _ := term.Deadline()
	for again := false; term.Err() == nil; again = true {
		last := time.Until(end) <= lastClose
		before := e.try(term, false, again && last)
		if last {
			wait(term, before.idle, lastClose)
			return
		}
		if wait(term, before.idle, firstClose) {
			return
		}
		e.try(term, true, false)
		wait(term, nil, firstClose) // for callers, which pause after a refusal
		wait(term, before.idle, time.Until(end)-lastClose)
	}
}

// try is admit and, if endStreams is set, ends the streams under way. It does nothing after the end of term.
func (e *Election) try(term context.Context, open, endStreams bool) (before *group) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if term.Err() != nil {
		return e.group
	}
	for _, c := range e.underWay {
		if endStreams && c.endStream != nil {
			c.endStream()
		}
	}
	return e.admit(open)
}

// admit makes Enter admit calls or refuse them. It returns the group of the calls before. It must be called with mu held.
func (e *Election) admit(open bool) (before *group) {
	before = e.group
	switch {
	case (e.opened == nil) == open: // nothing changes
	case open:
		close(e.opened)
		e.opened = nil
		e.group = &group{n: 1, idle: make(chan struct{})}
		if before.n > 0 {
			before.next = e.group
			e.group.add(1)
		}
	default:
		e.opened = make(chan struct{})
		before.add(-1)
	}
	return before
}

// wait waits until c is closed, for at most d and until ctx ends, and reports whether c is closed.
func wait(ctx context.Context, c <-chan struct{}, d time.Duration) bool {
	select {
	case <-c:
		return true
	case <-time.After(d):
	case <-ctx.Done():
	}
	return false
}
