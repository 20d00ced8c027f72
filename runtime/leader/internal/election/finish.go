package election

import (
	"cmp"
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

// Enter is Lead for a call, whose context is parent. Finish and Resign wait for the call, unless its handler calls them with the
// call's metadata. They make Enter refuse calls for a while, unless the caller is the handler of a call under way.
func (e *Election) Enter(parent context.Context, token int64) (ctx context.Context, done context.CancelFunc, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g, id := e.group, Header(parent, CallHeader)
	if e.closed {
		g = nil
		for _, caller := range metadata.ValueFromIncomingContext(parent, NestedHeader) {
			g = cmp.Or(g, e.under[caller])
		}
	}
	if g != nil {
		ctx, done, ok = e.lead(parent, token)
	}
	if !ok {
		return nil, nil, false
	}
	if id == "" || e.under[id] != nil { // the call of another client, or repeated by gRPC
		id = rand.Text()
	}
	g.add(1)
	e.under[id] = g
	stop := context.AfterFunc(parent, func() { e.exit(id) }) // nobody waits for the reply of a call that has ended
	end := done
	return Mark(metadata.AppendToOutgoingContext(ctx, NestedHeader, id)), func() {
		if end(); stop() {
			e.exit(id)
		}
	}, true
}

// exit makes Finish and Resign no longer wait for a call.
func (e *Election) exit(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if g := e.under[id]; g != nil {
		delete(e.under, id)
		g.add(-1)
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

// giveWay does what Resign does, unless ctx ends before the calls. Then the term goes on.
func (e *Election) giveWay(ctx context.Context, token int64) {
	_ = e.finish(ctx, token) // after an error, the callers of unfinished calls get an error, too
	stays := ctx.Err() != nil
	if stays {
		e.admit(token, true)
	}
	e.event(func(now time.Time) effects {
		if !stays {
			return e.core.resign(now, token)
		}
		if token == e.token {
			e.givesWay, e.finishing = false, false
		}
		return e.core.tick(now)
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
	timeout := finishTimeout
	if !e.core.wanted {
		timeout = lastClose // calls no longer reach this leader, nor yet another
	}
	bound, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	term, done := e.inTerm(bound)
	defer done()
	second := e.finishing
	e.finishing = true
	e.mu.Unlock()
	if second {
		<-term.Done()
	} else {
		e.endCalls(term, token)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("calls for the leader were under way when it resigned: %w", context.Cause(ctx))
	}
	return nil
}

// endCalls makes Enter refuse calls, and waits until none is under way. A call may last, or wait for a call that Enter refuses. So
// Enter soon admits calls again until the earlier ones have ended. Then endCalls tries again, and at last for longer if later calls
// need it: the first ones may be streams without end.
func (e *Election) endCalls(term context.Context, token int64) {
	end, _ := term.Deadline()
	var first *group
	for last := lastClose; term.Err() == nil; {
		calls := e.admit(token, false)
		first = cmp.Or(first, calls)
		if wait(term, calls.idle, firstClose) {
			return
		}
		if left := time.Until(end); left < lastClose {
			if last = 2 * firstClose; left < last || e.later(first) {
				wait(term, calls.idle, lastClose)
				return
			}
		}
		e.admit(token, true)
		wait(term, nil, firstClose) // for callers, which pause after a refusal
		wait(term, calls.idle, time.Until(end)-last)
	}
}

// later reports whether calls are under way that began after those of a group.
func (e *Election) later(than *group) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, g := range e.under {
		if g != than {
			return true
		}
	}
	return false
}

// admit makes Enter admit calls or refuse them for the rest of the term with token. It returns the group of the calls until now.
func (e *Election) admit(token int64, calls bool) *group {
	e.mu.Lock()
	defer e.mu.Unlock()
	until := e.group
	if token == e.token && e.closed == calls { // otherwise the next term may have begun
		if e.closed = !calls; calls {
			e.group = &group{n: 1, idle: make(chan struct{})}
			if until.n > 0 {
				until.next = e.group
				e.group.add(1)
			}
		} else {
			until.add(-1)
		}
	}
	return until
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
