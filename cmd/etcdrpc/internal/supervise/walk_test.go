package supervise

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/coretest"
)

// walked is the core with a command and an etcd.
type walked struct {
	now  time.Time
	core *core
	wake time.Time

	runs  bool // the command's own process
	left  bool // others of its process group
	exit  Exit
	heard Signal // the last that asked it to end

	probing, announcing, withdrawing bool // the shell is at it

	entry      bool      // in etcd, or on its way there
	up         bool      // the entry is not paused
	given      bool      // the withdrawal was begun
	out        time.Time // when it ended, or would be waited for no longer
	asks       int       // signals that asked to end
	stoppedAt  time.Time // when the command was asked to end
	stoppedFor int       // ... after so many signals
	killedAt   time.Time
	over       bool
	broken     string
}

func startWalk(settings Settings) *walked {
	w := &walked{now: began, core: newCore(settings, began), runs: true}
	w.step(event{})
	return w
}

func (w *walked) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// step hands the core an event, and takes what it wants done.
func (w *walked) step(e event) bool {
	do := w.core.step(e, w.now)
	w.wake = do.wake
	w.judgeEntry(do)
	for _, s := range do.signals {
		w.send(s)
	}
	if do.probe {
		if w.probing || w.asks > 0 || !w.runs {
			w.breaks("there is one probe at a time, of a command that is to go on")
		}
		w.probing = true
	}
	if do.exit {
		w.judgeExit(do.code)
		w.over = true
	} else if !do.wake.IsZero() && !do.wake.After(w.now) {
		w.breaks("it wakes at once")
	}
	return true
}

func (w *walked) judgeEntry(do do) {
	if do.pause == do.resume && do.pause || do.pause && !w.up || do.resume && w.up {
		w.breaks("an entry is paused and resumed in turns")
	}
	if (do.pause || do.resume) && w.given {
		w.breaks("an entry that is withdrawn is neither paused nor resumed")
	}
	w.up = (w.up || do.resume) && !do.pause
	if do.announce {
		if w.announcing || w.given || !w.runs {
			w.breaks("there is one announcement at a time, of a command that is to go on")
		}
		w.up = w.up || !w.entry
		w.entry, w.announcing = true, true
	}
	if do.withdraw {
		if w.given {
			w.breaks("it is withdrawn twice")
		}
		w.given, w.withdrawing, w.out = true, true, w.now.Add(withdrawTimeout)
	}
}

// send has the command hear a signal.
func (w *walked) send(s Signal) {
	switch {
	case !w.runs && !w.left:
		w.breaks("nobody is left to hear %v", s)
	case s == Kill:
		if w.killedAt.IsZero() && w.now.Before(w.stoppedAt.Add(w.core.settings.StopTimeout)) && w.asks == w.stoppedFor {
			w.breaks("it is killed before its time")
		}
		w.killedAt, w.heard = w.now, s
	case s.ends():
		drained := !w.now.Before(w.out.Add(w.core.settings.DrainDelay))
		if w.runs && w.entry && w.asks < 2 && (!w.given || w.now.Before(w.out) || !drained) {
			w.breaks("callers have not heard yet that the command ends")
		}
		w.stoppedAt, w.stoppedFor, w.heard = w.now, w.asks, s
	}
}

func (w *walked) judgeExit(code int) {
	killed := !w.killedAt.IsZero() && !w.now.Before(w.killedAt.Add(killTimeout))
	switch {
	case (w.runs || w.left) && !killed:
		w.breaks("it exits before the command")
	case w.entry && (!w.given || w.withdrawing && w.now.Before(w.out)):
		w.breaks("it exits before the entry is withdrawn")
	case !w.runs && code != w.exit.code() && (!w.core.failed || code != 1):
		w.breaks("it exits with %d, not as the command that %v", code, w.exit)
	case w.runs && code != 137:
		w.breaks("it exits with %d, and the command runs", code)
	}
}

// answer hands the core the answer to what the shell is at.
func (w *walked) answer(at *bool, e event) bool {
	if !*at || w.over {
		return false
	}
	*at = false
	return w.step(e)
}

var errWalk = errors.New("trouble")

func (w *walked) found(h health) bool {
	return w.answer(&w.probing, event{kind: probed, health: h, err: errWalk})
}

func (w *walked) placed(err error) bool {
	return w.answer(&w.announcing, event{kind: announced, err: err})
}

func (w *walked) gone(err error) bool {
	if w.withdrawing && w.now.Before(w.out) {
		w.out = w.now
	}
	return w.answer(&w.withdrawing, event{kind: withdrawn, err: err})
}

func (w *walked) signal(s Signal) bool {
	if w.over || w.asks > 3 {
		return false
	}
	if s.ends() {
		w.asks++
	}
	return w.step(event{kind: signalled, signal: s})
}

// ends has the command's own process end.
func (w *walked) ends(exit Exit, alone bool) bool {
	if !w.runs || w.over {
		return false
	}
	w.runs, w.left, w.exit = false, !alone, exit
	return w.step(event{kind: exited, exit: exit, alone: alone})
}

func (w *walked) emptied() bool {
	if w.runs || !w.left || w.over {
		return false
	}
	w.left = false
	return w.step(event{kind: groupGone})
}

// pass has time pass until the core wants to be woken.
func (w *walked) pass() bool {
	if w.over || w.wake.IsZero() {
		return false
	}
	w.now = w.wake
	return w.step(event{})
}

// settle ends the command, which heeds what it is told.
func (w *walked) settle() string {
	switch {
	case w.over:
		return ""
	case w.asks == 0 && w.runs:
		w.signal(Terminate)
		return "it is asked to end"
	case w.withdrawing:
		w.gone(nil)
		return "the entry is withdrawn"
	case w.runs && w.heard != 0:
		w.ends(Exit{Signal: w.heard}, true)
		return "the command ends"
	case w.left:
		w.emptied()
		return "the others end"
	case !w.pass():
		return "nothing happens any more"
	}
	return "time passes"
}

func TestWalk(t *testing.T) {
	shape := &coretest.Shape{Old: time.Hour}
	events := []coretest.Event[walked]{
		{Name: "the command is healthy", Do: func(w *walked) bool { return w.found(healthy) }},
		{Name: "the command is not healthy", Do: func(w *walked) bool { return w.found(unhealthy) }},
		{Name: "the command does not answer", Do: func(w *walked) bool { return w.found(unreachable) }},
		{Name: "the command cannot be spoken to", Do: func(w *walked) bool { return w.found(strange) }},
		{Name: "the command has no room for the probe", Do: func(w *walked) bool { return w.found(busy) }},
		{Name: "the command does not tell its health", Do: func(w *walked) bool { return w.found(untold) }},
		{Name: "the entry is in etcd", Do: func(w *walked) bool { return w.placed(nil) }},
		{Name: "etcd refuses the entry", Do: func(w *walked) bool { return w.placed(errWalk) }},
		{Name: "the entry is out of etcd", Do: func(w *walked) bool { return w.gone(nil) }},
		{Name: "the entry may be left in etcd", Do: func(w *walked) bool { return w.gone(errWalk) }},
		{Name: "SIGTERM", Do: func(w *walked) bool { return w.signal(Terminate) }},
		{Name: "SIGINT", Do: func(w *walked) bool { return w.signal(Interrupt) }},
		{Name: "SIGHUP", Do: func(w *walked) bool { return w.signal(1) }},
		{Name: "the command ends", Do: func(w *walked) bool { return w.ends(Exit{Code: 3}, true) }},
		{Name: "the command is killed, and others are left", Do: func(w *walked) bool { return w.ends(Exit{Signal: Kill}, false) }},
		{Name: "the others end", Do: (*walked).emptied},
		{Name: "time passes", Do: (*walked).pass},
	}
	for _, strict := range []bool{false, true} {
		settings := testSettings()
		if settings.Strict = strict; strict {
			settings.StopTimeout = time.Second // less than etcd may take
		}
		coretest.Walk(t, 9, coretest.World[walked]{
			Start:  func() *walked { return startWalk(settings) },
			Copy:   func(w *walked) *walked { return coretest.Copy(shape, w) },
			Key:    func(w *walked) string { return coretest.Key(shape, w, w.now) },
			Events: events, Settle: (*walked).settle, Within: 8,
			Rules: []coretest.Rule[walked]{
				{Name: "always", Broken: func(_, w *walked) string { return w.broken }},
				{Name: "a command that does not serve is in no etcd", Broken: func(before, w *walked) string {
					if strict && w.entry && !before.entry && w.core.finding != "server serves: it goes into etcd under acme/user" {
						return w.core.finding
					}
					return ""
				}},
				{Name: "phases only go on", Broken: func(before, w *walked) string {
					if w.core.phase < before.core.phase {
						return fmt.Sprintf("from %d to %d", before.core.phase, w.core.phase)
					}
					return ""
				}},
			},
		})
	}
}
