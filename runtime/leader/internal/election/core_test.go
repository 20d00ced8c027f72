package election

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
)

// leading returns the core of an instance that leads with the token 5, on a
// lease of 10 s, since begin.
func leading() *core {
	c := &core{grace: grace}
	c.hear(begin, View{Known: true})
	c.want(begin, true)
	own := First{Key: "a", Created: 5}
	c.stood(begin, c.number, outcome{own: own, lease: 7, life: 10 * time.Second, sent: begin})
	c.hear(begin, View{Known: true, First: own})

	return c
}

// Rules that the walk does not distinguish: when calls are made, and which
// events end a leadership. Each row begins with a leader.
func TestCore(t *testing.T) {
	const s = time.Second

	view := View{Known: true, First: First{Key: "a", Created: 5}}
	blind := view
	drained := view
	blind.Blind = true
	drained.Yields = true
	var last time.Time // the time of the last event

	after := func(d time.Duration) time.Time {
		last = begin.Add(d)
		return last
	}
	for _, row := range []struct {
		rule          string
		do            func(c *core) effects
		token         int64 // of the term at last, 0 without one
		renew, revoke bool
		wake          time.Duration
	}{
		{"the next renewal is due a quarter of the TTL after the last one", func(c *core) effects {
			return c.tick(after(s))
		}, 5, false, false, 5 * s / 2},
		{"the next renewal is due even if the last one is unanswered", func(c *core) effects {
			c.tick(after(5 * s / 2))
			return c.tick(after(5 * s))
		}, 5, true, false, 15 * s / 2},
		{"a failed renewal is repeated soon", func(c *core) effects {
			c.tick(after(5 * s / 2))
			return c.renewed(after(3*s), c.number, outcome{err: errLost})
		}, 5, false, false, 4 * s},
		{"the leadership ends a tenth of the TTL before the proven end of the lease",
			func(c *core) effects {
				c.tick(after(8 * s))
				return c.tick(after(9 * s))
			}, 0, false,
			false, 21 * s / 2},
		{"a lease that is renewed late is revoked", func(c *core) effects {
			return c.renewed(after(9*s), c.number, outcome{sent: begin, life: 20 * s})
		}, 0, false, true, 10 * s},
		{"an answer about another candidate is ignored", func(c *core) effects {
			return c.renewed(after(s), c.number-1, outcome{gone: true})
		}, 5, false, false, 5 * s / 2},
		{"a renewal is due at once when the candidate is missing", func(c *core) effects {
			return c.hear(after(s), View{Known: true})
		}, 0, true, false, 7 * s / 2},
		{"the lease of a deleted candidate is revoked", func(c *core) effects {
			return c.renewed(after(s), c.number, outcome{gone: true})
		}, 0, false, true, 2 * s},
		{"a revocation without an answer is made again after a second", func(c *core) effects {
			c.resign(after(s), 5, grace)
			return c.tick(after(2 * s))
		}, 0, false, true, 3 * s},
		{"a leader does not resign with another token", func(c *core) effects {
			return c.resign(after(s), 4, grace)
		}, 5, false, false, 5 * s / 2},
		{"the leadership ends when the entry leaves and no call is under way",
			func(c *core) effects { return c.want(after(s), false) }, 0, false, true, 2 * s},
		{"a call under way delays the end by the grace at most", func(c *core) effects {
			c.enter(after(s/2), 5, true)
			return c.want(after(s), false)
		}, 5, false, false, 5 * s / 2},
		{"the grace is shorter than a renewal", func(c *core) effects {
			c.enter(after(s/4), 5, true)
			return c.resign(after(s/4), 5, s)
		}, 5, false, false, 5 * s / 4},
		{"after the grace the leadership ends", func(c *core) effects {
			c.enter(after(s), 5, true)
			c.resign(after(s), 5, s)

			return c.tick(after(2 * s))
		}, 0, false, true, 3 * s},
		{"a second resignation may shorten the grace, but not prolong it", func(c *core) effects {
			c.enter(after(s), 5, true)
			c.resign(after(s), 5, s)
			c.resign(after(s), 5, 2*s)

			return c.resign(after(s), 5, 0)
		}, 0, false, true, 2 * s},
		{"the leadership ends with its last call", func(c *core) effects {
			c.enter(after(s), 5, true)
			c.want(after(s), false)

			return c.exit(after(s), c.number)
		}, 0, false, true, 2 * s},
		{"a leader that resigns goes on to resign if the entry is back", func(c *core) effects {
			c.enter(after(s), 5, true)
			c.want(after(s), false)
			c.want(after(s), true)

			return c.exit(after(s), c.number)
		}, 0, false, true, 2 * s},
		{"a candidate whose entry leaves while it stands does not begin to lead", func(c *core) effects {
			c.resign(after(s), 5, grace)
			c.revoked(last, c.number, true)
			c.want(last, false)

			return c.stood(last, c.number,
				outcome{own: view.First, lease: 7, life: 10 * s, sent: last})
		}, 0, false, true, 2 * s},
		{"the leadership ends at once when the registration is closed", func(c *core) effects {
			return c.end(after(s))
		}, 0, false, true, 2 * s},
		{"a leader leads on when etcd denies it the candidates", func(c *core) effects {
			return c.hear(after(s), blind)
		}, 5, false, false, 5 * s / 2},
		{"a candidate that does not lead is revoked when etcd denies it the candidates", func(c *core) effects {
			blind.First = First{Key: "b", Created: 4}
			return c.hear(after(s), blind)
		}, 0, false, true, 2 * s},
		{"a drained leader yields", func(c *core) effects {
			return c.hear(after(s), drained)
		}, 0, false, true, 2 * s},
		{"a drained candidate that does not lead is revoked", func(c *core) effects {
			drained.First = First{Key: "b", Created: 4}
			return c.hear(after(s), drained)
		}, 0, false, true, 2 * s},
	} {
		c := leading()
		e := row.do(c)
		wake := time.Duration(0)
		if !e.wake.IsZero() {
			wake = e.wake.Sub(begin)
		}

		token := c.term(last).Token
		if token != row.token ||
			(e.renew != 0) != row.renew ||
			(e.revoke != 0) != row.revoke ||
			wake != row.wake {
			t.Errorf("%s: token %d, renews lease %d, revokes lease %d, wakes after %v; want token %d, a renewal: %v, a revocation: %v, wake after %v",
				row.rule, token, e.renew, e.revoke, wake, row.token, row.renew, row.revoke,
				row.wake)
		}
	}
}

// While only the wall clock has ended a leadership, a renewal decides: no call
// begins, and those under way go on. No leadership begins.
func TestDoubt(t *testing.T) {
	own := First{Key: "a", Created: 5}
	life := time.Minute
	for name, o := range map[string]outcome{
		"is renewed":     {},
		"gets no answer": {err: errLost},
		"is gone":        {gone: true},
	} {
		for _, led := range []bool{true, false} {
			now := time.Now()
			later := now.Add(time.Second)

			// Package time keeps the seconds of the wall clock above 30 bits of
			// nanoseconds.
			*(*uint64)(unsafe.Pointer(&later)) += 3600 << 30

			c := &core{
				phase:  placed,
				own:    own,
				view:   View{Known: true},
				wanted: true,
				lease:  7,
				life:   life,
				until:  now.Add(life / 2),
				callAt: now.Add(life),
			}
			if led {
				c.hear(now, View{Known: true, First: own})
			}

			e := c.hear(later, View{Known: true, First: own})
			if e.renew != 7 || c.term(later) != (Term{}) || !c.inDoubt(later) {
				t.Fatalf("the term is %+v, in doubt: %v, and lease %d is renewed, want no term, a doubt, and lease 7",
					c.term(later), c.inDoubt(later), e.renew)
			}

			left := *c
			left.calls = 1
			left.grace = grace

			if e := left.want(later, false); (e.revoke == 0) != led {
				t.Errorf("an entry leaves in doubt with a call, after a leadership: %v; lease %d is revoked, want that without a leadership",
					led, e.revoke)
			}

			c.renewed(later, c.number, outcome{sent: later, life: life, err: o.err, gone: o.gone})
			leads := c.term(later).Token == 5

			want := o == (outcome{})
			if leads != want || c.inDoubt(later) {
				t.Errorf("a leader whose lease %s: leads: %v, in doubt: %v, want %v and no doubt",
					name, leads, c.inDoubt(later), want)
			}
		}
	}
}

// After a refused attempt the instance backs off, and its lease is revoked, so
// that it does not keep others from leading (E4).
func TestRefusedCandidateGivesWay(t *testing.T) {
	c := new(core)
	now := begin
	c.hear(now, View{Known: true})
	c.want(now, true)

	for _, pause := range []time.Duration{500, 1000, 2000, 4000, 8000, 10_000, 10_000} {
		e := c.stood(now, c.number,
			outcome{err: errLost, refused: true, lease: 7, life: time.Minute})
		if e.revoke != 7 {
			t.Fatalf("the effects after a refusal are %+v, want the revocation of lease 7", e)
		}

		e = c.revoked(now, c.number, true)
		if got := e.wake.Sub(now); got != pause*time.Millisecond {
			t.Errorf("the next attempt is after %v, want %v ms", got, int64(pause))
		}

		now = e.wake
		if c.tick(now).stand == 0 {
			t.Fatal("no attempt to stand is due after the pause")
		}
	}
}

// A call of a further attempt to stand has more time, up to 10 s: etcd may be
// slow.
func TestStand_HasMoreTimeAfterAFailure(t *testing.T) {
	c := new(core)
	c.hear(begin, View{Known: true})

	e := c.want(begin, true)
	for _, want := range []time.Duration{2, 3, 4, 6, 10, 10} {
		if e.stand != want*time.Second {
			t.Errorf("a call has %v, want %d s", e.stand, int64(want))
		}

		e = c.stood(begin, c.number, outcome{err: errLost})
		e = c.tick(e.wake)
	}
}

// Candidates are created at growing revisions, unless etcd was restored: that
// is reported once (E5).
func TestRepeatedTokens(t *testing.T) {
	c := leading()
	for i, row := range []struct{ first, own, back int64 }{{9, 11, 0}, {20, 7, 20}, {8, 9, 0}} {
		c.hear(begin, View{Known: true, First: First{Key: "b", Created: row.first}})
		c.leave(begin)

		if e := c.revoked(begin, c.number, true); e.stand == 0 {
			t.Fatalf("step %d: the instance does not stand again after the revocation", i)
		}

		e := c.stood(begin, c.number, outcome{
			own:   First{Key: "a", Created: row.own},
			lease: 7,
			life:  time.Minute,
			sent:  begin,
		})
		if e.restoredFrom != row.back {
			t.Errorf("step %d: restoredFrom = %d, want %d", i, e.restoredFrom, row.back)
		}
	}
}

// elected returns an election whose instance leads with the token 5 for an
// hour.
func elected(t *testing.T) *Election {
	e := New(Config{Candidates: &silent{}, TermChanged: func() {}, Grace: time.Minute})
	t.Cleanup(e.cancel)
	own := First{Key: "a", Created: 5}
	now := time.Now()
	e.core = core{
		grace:  e.core.grace,
		wanted: true,
		begun:  true,
		phase:  placed,
		own:    own,
		view:   View{Known: true, First: own},
		until:  now.Add(time.Hour),
		callAt: now.Add(time.Hour),
	}

	e.turn(5)

	return e
}

// Resign with an earlier token does not affect the next leadership of the same
// instance.
func TestResign_OfATermThatHasEnded(t *testing.T) {
	e := elected(t)
	if err := e.Resign(t.Context(), 4); err != nil {
		t.Error(err)
	}

	if _, _, ok := e.Enter(t.Context(), 5, true); !ok {
		t.Error("Enter refuses a call in the next leadership")
	}
}

// A leader that resigns refuses calls, ends streams at once, and waits for
// unary calls under way, within its grace.
func TestResign_WaitsForUnaryCalls(t *testing.T) {
	const endless = time.Hour
	for name, row := range map[string]struct {
		// how long the call under way takes, and how long Resign may wait
		call, within time.Duration

		takes  time.Duration
		late   bool // the context of Resign ends first
		stream bool // the handler of a stream calls Resign
	}{
		"a short call": {50 * time.Millisecond, endless, 50 * time.Millisecond,
			false, false},
		"a call without end":               {endless, endless, maxGrace, false, false},
		"the context of Resign ends first": {endless, time.Second, time.Second, true, false},
		"its handler calls Resign":         {0, endless, 0, false, false},
		"a stream's handler calls Resign": {50 * time.Millisecond, endless, 50 * time.Millisecond,
			false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := elected(t)
				stream, _, _ := e.Enter(t.Context(), 5, false)
				call, done, _ := e.Enter(t.Context(), 5, true)
				abandoned, abandon := context.WithCancel(t.Context())
				_, _, _ = e.Enter(abandoned, 5, true) // its handler ignores that its call ends
				abandon()

				from := t.Context()
				if row.call == 0 {
					from = call
				} else {
					time.AfterFunc(row.call, done)
				}

				if row.stream {
					from = stream
				}

				ctx, cancel := context.WithTimeout(from, row.within)
				defer cancel()

				began := time.Now()
				resigned := make(chan error, 1)
				go func() { resigned <- e.Resign(ctx, 5) }()
				synctest.Wait()

				if !errors.Is(context.Cause(stream), ErrEnded) ||
					row.call > 0 && call.Err() != nil {
					t.Errorf("the cause of the stream's end is %v, and the call has ended with %v; want ErrEnded and nil",
						context.Cause(stream), call.Err())
				}

				if _, _, ok := e.Enter(t.Context(), 5, true); ok {
					t.Error("a leader that resigns admits a call")
				}

				err := <-resigned
				if time.Since(began) != row.takes ||
					(err != nil) != row.late ||
					call.Err() == nil ||
					e.token != 0 {
					t.Errorf("Resign returned %v after %v, the call ended with %v; want an error: %v, after %v, and the call's end",
						err, time.Since(began), call.Err(), row.late, row.takes)
				}
			})
		})
	}
}

// silent is a viewer that never knows any candidate.
type silent struct{ read func() }

func (s *silent) View() View {
	s.read()
	return View{}
}
func (s *silent) Err() error {
	return nil
}
func (s *silent) Read(func()) (stop func()) {
	return func() {}
}

// The candidates and the live config notify from their own goroutines. A view
// that is read without mu may be handled after a newer one.
func TestHear_ReadsTheViewUnderTheLock(t *testing.T) {
	candidates := new(silent)
	e := New(Config{Candidates: candidates})
	candidates.read = func() {
		if e.mu.TryLock() {
			e.mu.Unlock()

			t.Error("View is called without mu, so that a newer view may be handled first")
		}
	}

	e.hear()
}

// A paused entry does not report earlier failures, and pausing it does not log
// a recovery.
func TestErr_OfAPausedEntry(t *testing.T) {
	var logs bytes.Buffer
	e := New(Config{
		Candidates: &silent{read: func() {}},
		Host:       &extension.Host{Logger: slog.New(slog.NewTextHandler(&logs, nil))},
	})

	e.Registered(true)
	e.failed = errLost
	e.hear()

	if err := e.Err(); !errors.Is(err, errLost) {
		t.Errorf("the error of an entry that cannot stand is %v, want %v", err, errLost)
	}

	e.Registered(false)
	e.tasks.Wait()

	if err := e.Err(); err != nil || strings.Count(logs.String(), "\n") != 1 {
		t.Errorf("the error of a paused entry is %v, want nil; the log is %s, want one line", err,
			logs.String())
	}
}

// A handler that calls the leader of another service does not make its own
// leader stop waiting.
func TestExit_OfAnotherElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := elected(t)
		call, _, _ := e.Enter(t.Context(), 5, true)
		go func() { _ = e.Resign(t.Context(), 5) }()
		synctest.Wait()
		Exit(call, "another")

		if call.Err() != nil {
			t.Error("the call has ended with a call for another leader")
		}

		Exit(call, e.Prefix)

		if call.Err() == nil {
			t.Error("the call goes on, though its handler waits for the next leader")
		}
	})
}
