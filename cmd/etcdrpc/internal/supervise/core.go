package supervise

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

const (
	// The pause between two probes. Until the command serves they are close together, for callers wait for it.
	startInterval = 200 * time.Millisecond
	probeInterval = time.Second

	// maxMisses is how many probes in a row tell nothing of its health before the command counts as unhealthy. An answer
	// that says so counts at once.
	maxMisses = 3

	// startMisses is after how many of them a command that has yet to serve is worth a line: 5 s.
	startMisses = 25

	// The pause before etcd is tried again after it has refused, which lasts until somebody changes something.
	minRetry = time.Second
	maxRetry = 10 * time.Second

	// withdrawTimeout bounds the wait for etcd while the command ends, as runtime.Server does.
	withdrawTimeout = 3 * time.Second

	// killTimeout bounds the wait for processes that were killed. One that waits for a disk does not end.
	killTimeout = 5 * time.Second
)

// Signal is the number of a signal.
type Signal int

// The signals that are numbered alike wherever there are signals.
const (
	Interrupt Signal = 2
	Kill      Signal = 9
	Terminate Signal = 15
)

func (s Signal) String() string {
	switch s {
	case Interrupt:
		return "SIGINT"
	case Kill:
		return "SIGKILL"
	case Terminate:
		return "SIGTERM"
	}
	return fmt.Sprintf("signal %d", int(s))
}

// ends reports whether a signal asks to end.
func (s Signal) ends() bool { return s == Interrupt || s == Terminate }

// Exit is how a process ended.
type Exit struct {
	Code   int
	Signal Signal // that killed it; 0: none did
}

// code returns the exit code by which a shell tells it.
func (e Exit) code() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return "was killed by " + e.Signal.String()
	}
	return fmt.Sprintf("ended with %d", e.Code)
}

// Settings say how a command is supervised.
type Settings struct {
	Key          string        // of the service
	Name         string        // of the command, for messages
	Strict       bool          // a command that does not tell its health does not serve
	DrainDelay   time.Duration // from the withdrawal to the signal
	StopTimeout  time.Duration // from the signal to SIGKILL
	StartTimeout time.Duration // until it serves for the first time; 0: as long as it takes
}

// phase is how far the command is on its way.
//
//	starting ──▶ serving ──▶ leaving ──▶ draining ──▶ stopping ──▶ killed
//	    │           │           │            │           ▲
//	    └───────────┴───────────┴────────────┴───────────┘
type phase int

const (
	starting phase = iota // it has yet to serve
	serving               // it has served, and is in etcd while it is healthy
	leaving               // it is being withdrawn from etcd
	draining              // callers have time to hear of that
	stopping              // it was told to end, or did
	killed                // what is left of it was killed
)

type eventKind int

const (
	tick      eventKind = iota // time has passed
	probed                     // a probe was answered
	announced                  // the announcement has succeeded, or failed by err
	withdrawn                  // the withdrawal has succeeded, or failed by err
	signalled                  // the supervisor was sent a signal
	exited                     // the command's own process has ended; alone: it has left nothing in its process group
	groupGone                  // the rest of its process group has ended, too
)

// event is what the shell tells the core. Its zero value says that time has passed.
type event struct {
	kind   eventKind
	health health
	signal Signal
	exit   Exit
	alone  bool
	err    error // why a probe, an announcement or a withdrawal failed
}

// health is what a probe has found.
type health int

const (
	healthy     health = iota
	unhealthy          // the command says so
	unreachable        // there was no answer
	strange            // there was one that says nothing of its health
	busy               // it has no room for the probe
	untold             // it answers, but not to that
)

// do is what the shell is to do, in this order.
type do struct {
	say      []string // each is a line
	pause    bool     // take the entry out of etcd for now
	resume   bool     // put it back
	announce bool     // put the entry in etcd, and keep it there
	withdraw bool     // take it out for good
	signals  []Signal // to the command's process group
	probe    bool
	exit     bool // with this code, once the rest is done
	code     int
	wake     time.Time // when to send tick; zero: never
}

// core decides what becomes of a command and of its entry in etcd. It does no I/O and reads no clock: step takes an
// event and the time, and returns what to do.
type core struct {
	settings Settings
	phase    phase
	until    time.Time // when the phase is over at the latest; zero: when something happens

	probing   bool
	nextProbe time.Time
	misses    int
	up        bool   // the command is healthy, as far as etcd is told
	finding   string // what was said last of its health

	wanted      bool // the entry was announced, and is not withdrawn yet
	announcing  bool
	retryAt     time.Time // when to announce it again; zero: no need
	retries     backoff.Backoff
	trouble     string    // what was said last of the announcement
	withdrawing time.Time // until when the withdrawal is waited for; zero: there is none under way

	asked  Signal // the signal that asked to end; 0: none has
	failed bool   // the command did not serve in time, or ended before without being asked to
	ended  bool   // the command's own process
	exit   Exit
	alone  bool // there is nothing left of its process group
	over   bool
}

func newCore(settings Settings, now time.Time) *core {
	c := &core{settings: settings, nextProbe: now, retries: backoff.Backoff{Base: minRetry, Max: maxRetry}}
	if settings.StartTimeout > 0 {
		c.until = now.Add(settings.StartTimeout)
	}
	return c
}

// step takes in an event, and returns what to do.
func (c *core) step(e event, now time.Time) do {
	var do do
	if c.over {
		return do
	}
	switch e.kind {
	case probed:
		c.probed(e, now, &do)
	case announced:
		c.announced(e.err, now, &do)
	case withdrawn:
		c.withdrawn(e.err, &do)
	case signalled:
		c.signalled(e.signal, now, &do)
	case exited:
		c.exited(e, now, &do)
	case groupGone:
		c.alone = true
	}
	c.advance(now, &do)
	if !c.over {
		c.ask(now, &do)
		do.wake = c.wake()
	}
	return do
}

// probed takes in the answer to a probe.
func (c *core) probed(e event, now time.Time, do *do) {
	c.probing, c.nextProbe = false, now.Add(probeInterval)
	if c.phase == starting {
		c.nextProbe = now.Add(startInterval)
	}
	if c.phase > serving || c.ended {
		return
	}
	missed := e.health == unreachable || e.health == strange
	c.misses++
	if !missed {
		c.misses = 0
	}
	switch {
	case e.health == healthy, e.health == untold && !c.settings.Strict:
		c.serves(e, do)
	case e.health == busy && c.phase == serving: // it lives, and its entry stays in etcd, or out of it
	case c.phase == starting || !missed || c.misses >= maxMisses: // one alone may be due to a busy machine
		c.fails(e, do)
	}
}

// serves takes in that the command is healthy.
func (c *core) serves(e event, do *do) {
	switch {
	case c.phase == starting:
		c.phase, c.until = serving, time.Time{}
		c.wanted, c.announcing, do.announce = true, true, true
		text := fmt.Sprintf("%s serves: it goes into etcd under %s", c.settings.Name, c.settings.Key)
		if e.health == untold {
			text += fmt.Sprintf(", and counts as healthy while it answers: %v", e.err)
		}
		c.find(do, text)
	case !c.up:
		do.resume = true
		c.find(do, c.settings.Name+" is healthy again: it goes back into etcd")
	}
	c.up = true
}

// fails takes in that the command is not healthy.
func (c *core) fails(e event, do *do) {
	if c.phase == starting {
		if e.health != unreachable || c.misses == startMisses { // that it accepts no connection at first is no news
			c.find(do, fmt.Sprintf("%s does not serve yet: %v", c.settings.Name, e.err))
		}
		return
	}
	if c.up {
		do.pause = true
		c.find(do, fmt.Sprintf("%s is not healthy, and out of etcd until it is: %v", c.settings.Name, e.err))
	}
	c.up = false
}

// find says what was found, unless it was said last.
func (c *core) find(do *do, text string) { do.sayNew(&c.finding, text) }

// sayNew says a text, unless it was said last but for the addresses in it: each attempt has a port of its own.
func (d *do) sayNew(last *string, text string) {
	if !etcderr.Same(errors.New(text), errors.New(*last)) {
		d.say = append(d.say, text)
		*last = text
	}
}

// announced takes in the outcome of an announcement.
func (c *core) announced(err error, now time.Time, do *do) {
	c.announcing = false
	if c.phase != serving {
		return
	}
	if err == nil {
		c.trouble = ""
		c.retries.Reset()
		return
	}
	c.retryAt = now.Add(c.retries.Bound())
	do.sayNew(&c.trouble, fmt.Sprintf("%s is not in etcd, which is tried again: %v", c.settings.Name, err))
}

// withdrawn takes in the outcome of a withdrawal.
func (c *core) withdrawn(err error, do *do) {
	if c.withdrawing.IsZero() {
		return // it was not waited for any more
	}
	c.withdrawing = time.Time{}
	if err != nil {
		do.say = append(do.say, fmt.Sprintf("%s may be in etcd until its lease ends: %v", c.settings.Name, err))
	}
}

// signalled takes in a signal. One that asks to end a second time ends the wait that is under way.
func (c *core) signalled(s Signal, now time.Time, do *do) {
	if !s.ends() {
		if !c.ended {
			do.signals = append(do.signals, s)
		}
		return
	}
	c.asked = s
	switch c.phase {
	case serving:
		c.enter(leaving, time.Time{})
		c.withdraw(now, do)
	case starting, leaving, draining:
		c.stop(now, do)
	case stopping:
		c.kill(now, do)
	}
}

// exited takes in that the command's own process has ended. What it leaves in its process group is to end, too.
func (c *core) exited(e event, now time.Time, do *do) {
	c.ended, c.exit, c.alone = true, e.exit, e.alone
	if c.phase < stopping {
		switch {
		case c.asked != 0:
		case c.phase == starting:
			c.failed = c.settings.StartTimeout > 0
			do.say = append(do.say, fmt.Sprintf("%s %v before it served", c.settings.Name, e.exit))
		default:
			do.say = append(do.say, fmt.Sprintf("%s %v", c.settings.Name, e.exit))
		}
		c.withdraw(now, do)
		c.stop(now, do)
	}
}

// withdraw begins to withdraw the entry, if there is one to withdraw.
func (c *core) withdraw(now time.Time, do *do) {
	if c.wanted {
		c.wanted, c.retryAt = false, time.Time{}
		c.withdrawing, do.withdraw = now.Add(withdrawTimeout), true
	}
}

func (c *core) enter(p phase, until time.Time) { c.phase, c.until = p, until }

// stop asks the command to end.
func (c *core) stop(now time.Time, do *do) {
	c.enter(stopping, now.Add(c.settings.StopTimeout))
	if !c.alone {
		do.signals = append(do.signals, cmp.Or(c.asked, Terminate))
	}
}

// kill ends what is left of the command.
func (c *core) kill(now time.Time, do *do) {
	c.enter(killed, now.Add(killTimeout))
	if !c.alone {
		do.signals = append(do.signals, Kill)
	}
}

// advance ends what is over by now.
func (c *core) advance(now time.Time, do *do) {
	due := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
	if due(c.withdrawing) {
		c.withdrawing = time.Time{}
		do.say = append(do.say, c.settings.Name+" may be in etcd until its lease ends: etcd does not answer")
	}
	if c.phase == starting && due(c.until) {
		c.failed = true
		do.say = append(do.say, fmt.Sprintf("%s does not serve within %v, and is ended", c.settings.Name, c.settings.StartTimeout))
		c.stop(now, do)
	}
	if c.phase == leaving && c.withdrawing.IsZero() {
		c.enter(draining, now.Add(c.settings.DrainDelay))
	}
	if c.phase == draining && due(c.until) {
		c.stop(now, do)
	}
	gone := c.ended && c.alone
	if c.phase == stopping && !gone && due(c.until) {
		do.say = append(do.say, fmt.Sprintf("%s does not end within %v, and is killed", c.settings.Name, c.settings.StopTimeout))
		c.kill(now, do)
	}
	if c.withdrawing.IsZero() && (gone || c.phase == killed && due(c.until)) {
		c.over, do.exit, do.code = true, true, c.code()
	}
}

// code returns what the supervisor ends with.
func (c *core) code() int {
	code := Exit{Signal: Kill}.code()
	if c.ended {
		code = c.exit.code()
	}
	if c.failed && code == 0 {
		return 1
	}
	return code
}

// ask has the command probed and the entry announced, when it is time.
func (c *core) ask(now time.Time, do *do) {
	if c.probes() && !now.Before(c.nextProbe) {
		c.probing, do.probe = true, true
	}
	if c.announces() && !now.Before(c.retryAt) {
		c.retryAt = time.Time{}
		c.announcing, do.announce = true, true
	}
}

func (c *core) probes() bool    { return c.phase <= serving && !c.probing }
func (c *core) announces() bool { return c.phase == serving && !c.announcing && !c.retryAt.IsZero() }

// wake returns when something is to be done, if nothing happens before.
func (c *core) wake() time.Time {
	var at time.Time
	sooner := func(wanted bool, t time.Time) {
		if wanted && !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	sooner(!c.ended || !c.alone, c.until)
	sooner(true, c.withdrawing)
	sooner(c.probes(), c.nextProbe)
	sooner(c.announces(), c.retryAt)
	return at
}
