package discovery

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log handler that waits before it takes a line.
type lines struct {
	slog.Handler
	wait  func()
	mu    sync.Mutex
	taken []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.taken = append(l.taken, text)
	return nil
}

// TestDepartures has connections leave and come back without end. Of each departure that is logged, the return is, too; no line is
// waited for but by the registry's end, and the last says how things are.
func TestDepartures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resume := make(chan struct{})
		logs := &lines{wait: func() { <-resume }}
		k := &Key{spec: spec{key: "ns/acme/user"}, keys: &Keys{cfg: Config{Logger: slog.New(logs)}}, departures: newDepartures()}
		k.CallsLeave(true)
		k.CallsLeave(true)
		if k.CallsLeave(false); k.Away() != 1 {
			t.Errorf("with one of two away: %d", k.Away())
		}
		k.CallsLeave(false)
		for range 100 {
			k.CallsLeave(true)
			k.CallsLeave(false)
		}
		close(resume)
		synctest.Wait()
		text := strings.Join(logs.taken, "\n")
		left, back := strings.Count(text, "calls go to"), strings.Count(text, "calls are back")
		if k.Away() != 0 || left < 2 || left > 6 || left != back || !strings.HasPrefix(text, "calls go to") || !strings.Contains(text, "key=ns/acme/user") {
			t.Errorf("%d away, %d departures logged and %d returns:\n%s", k.Away(), left, back, text)
		}
		k.CallsLeave(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if last := logs.taken[len(logs.taken)-1]; !strings.HasPrefix(last, "calls go to") {
			t.Errorf("while calls are away, the last line is %s", last)
		}

		resume = make(chan struct{})
		k.CallsLeave(false)
		closed := make(chan struct{})
		go func() {
			k.departures.close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("the registry is closed, and a line is being logged")
		default:
		}
		close(resume)
		<-closed
		n := len(logs.taken)
		k.CallsLeave(true)
		time.Sleep(time.Minute)
		k.CallsLeave(false)
		synctest.Wait()
		if len(logs.taken) != n {
			t.Errorf("the registry is closed, and it is logged: %s", logs.taken[n:])
		}
	})
}
