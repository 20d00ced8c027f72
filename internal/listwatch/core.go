package listwatch

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

const (
	// silentAfter is the time after which a first list without an answer is
	// published as an error.
	silentAfter = 2 * time.Second

	// reconnectPause is the time from a reconnect to a proof. By then the watch
	// has usually delivered all changes, and its stream has renewed the token
	// of a client with a password.
	reconnectPause = time.Second

	// If a watch older than steadyAfter fails, its range is listed again after
	// the shortest pause, 25 to 50 ms.
	steadyAfter = 5 * time.Second

	// firstRebuildPause bounds the pause after the first failure of a watch, or
	// of a list that the conversation does not repeat.
	firstRebuildPause = 50 * time.Millisecond
	maxRebuildPause   = 5 * time.Second
	never             = time.Hour // bounds a pause or a wait that an event ends
)

// errNotOpened is the outcome of opening a watch if etcd has not answered in
// time.
var errNotOpened = errors.New("etcd did not open the watch in time")

// call is what the shell waits for. The shell reports the outcome as the next
// event.
type call int

const (
	callPause call = iota // the end of a pause, or a reconnect
	callList              // a page of the range
	callWait              // a time, the watch, a proof, or trouble
)

// event is what the shell has waited for. The zero value means that a pause is
// over, or that a time is reached.
type event struct {
	read  *clientv3.GetResponse // the page or, if proof is set, the proof
	proof bool                  // callWait: read or err is the outcome of a proof
	asOf  int64                 // the highest revision known before the read
	took  time.Duration         // how long etcd took for the read

	opened bool                    // callWait: the watch is open
	answer *clientv3.WatchResponse // callWait: an answer of the watch

	back  bool  // the connection to etcd is back, or moved is set
	moved bool  // the watch must move to another stream
	lost  error // why etcd is not connected; set instead of back

	// the read failed or, during callWait, the watch did not open, or ended
	err error
	why error // the cause of err, such as why the connection to etcd is down

	// the wish stays: etcd is late, or the conversation repeats the read
	pending bool
}

// step is the next step of the shell: apply the effects, in the order of their
// fields, and then make the call.
type step[T any] struct {
	effects[T]
	action
}

// effects are actions of the shell that do not wait.
type effects[T any] struct {
	retire     bool       // make all watches of the client move to another stream
	closeWatch bool       // close the watch
	open       int64      // open a watch that starts at this revision, none if it is 0
	relisted   string     // count a repeated list under this cause, none if it is ""
	malformed  int        // count this many malformed values
	notes      []note     // log these lines
	update     *Update[T] // publish this update, none if it is nil
}

// note is a log line.
type note struct {
	warn bool
	text string
	args []any
}

// action is a call with its arguments.
type action struct {
	call  call
	pause time.Duration // callPause: bounds the pause
	until time.Time     // the other calls: when to wait no longer
	wish  *wish         // what the range wants to read; nil for nothing
}

// core follows one range of etcd keys: it decides what to read, interprets the
// answers, and decides when to publish an update.
//
//	list ◀──▶ wait
//	 ▲ │       │
//	 │ ▼       │
//	pause ◀────┘
//
// While it waits, a watch is open or being opened, and the range is proven.
//
// It does no I/O and reads no clock: step takes an event and the time, and
// returns the next step.
type core[T any] struct {
	name    string // the first key of the range, for logs and errors
	replica replica[T]
	doing   action
	effects effects[T] // for the shell, in this step

	listing  listing[T]      // the list in progress
	tried    bool            // a list has failed since the last one that succeeded
	refusals backoff.Backoff // the pauses after refused lists
	rebuilds backoff.Backoff // the pauses after failed watches

	// the revision from which the watch continued after a reconnect or a move;
	// 0 once a proof or a list has followed
	resumed int64

	watching bool      // a watch is open or being opened
	openedAt time.Time // when the watch was opened, zero while none is open

	unpublished bool      // the content changed since the last update
	gathered    int       // how many answers since then changed the content
	publishAt   time.Time // when the next update may be published
	quietAt     time.Time // when it may be published if no change comes until then

	cost            time.Duration // how long the user of the last update took
	lastErr         error         // the error of the last update
	failureLogged   bool          // a failure was logged, but not its end
	truncatedLogged bool          // a truncation was logged, but not its end

	now   time.Time        // of this step
	lines loglimit.Limiter // for log lines that writers of the range can cause
	fails loglimit.Limiter // for log lines about failed lists
}

func newCore[T any](in Range, decode Decode[T], cfg *Config[T]) *core[T] {
	most := cfg.MaxRefusedPause
	c := &core[T]{
		name:     in.From,
		refusals: backoff.Backoff{Base: most / 10, Max: most},
		rebuilds: backoff.Backoff{Base: firstRebuildPause, Max: maxRebuildPause},
	}

	c.replica.spread = cfg.Conversation.spread
	c.replica.every = proveEvery

	if cfg.Conversation.connected == nil {
		// no event reports a reconnect, perhaps to another etcd
		c.replica.every = proveSoon
	}

	if cfg.Equal == nil {
		cfg.Equal = func(a, b T) bool { return any(a) == any(b) }
	}

	c.replica.set = set[T]{
		decode:    decode,
		equal:     cfg.Equal,
		malformed: c.malformed,
		size:      cfg.Size,
		bounds:    cfg.Bounds,
		maxKey:    len(in.From) + endpoint.MaxInstance,
	}

	return c
}

// step takes the outcome of the last call, and returns the next step. The first
// event is the zero value.
func (c *core[T]) step(e event, now time.Time) step[T] {
	c.effects = effects[T]{}
	c.now = now
	c.doing = c.act(e)
	c.noteTruncated()

	return step[T]{c.effects, c.doing}
}

// published records how long the user took to handle the last update, and when
// the user returned.
func (c *core[T]) published(took time.Duration, at time.Time) {
	c.publishAt = at.Add(Pause(took, max(c.gathered, 1)))
	c.cost = took
	c.quietAt = c.publishAt
	c.gathered = 0
}

func (c *core[T]) act(e event) action {
	if e.moved {
		c.closeWatch()
		c.openWatch()
	}

	switch {
	case e.lost != nil:
		return c.onLost(e.lost)
	case c.doing.call == callWait:
		return c.onWake(e)
	case e.back:
		c.dropList() // it may have begun with another etcd
		return c.list(false)
	case c.doing.call == callPause:
		return c.list(false)
	}

	return c.onPage(e)
}

// list reads the next page of the current list, by one member alone if local.
func (c *core[T]) list(local bool) action {
	next := c.listing.page()
	next.local = local
	a := action{call: callList, until: c.now.Add(never), wish: &wish{page: next}}

	if !c.replica.known && !c.tried && c.listing.header == nil {
		a.until = c.now.Add(silentAfter)
	}

	return a
}

// onPage handles the outcome of reading a page. After the last page it opens a
// watch, unless there is one already.
func (c *core[T]) onPage(e event) action {
	local := c.doing.wish.page.local
	more, err := c.addPage(e)

	switch {
	case more:
		return c.list(local)
	case local:
		return c.onLocalList(e, err)
	case err != nil:
		return c.retry(e, err)
	}

	c.tried = false
	c.resumed = 0
	c.refusals.Reset()

	if c.watching {
		if err := c.replica.checkHeader(c.listing.header); err != nil {
			return c.rebuild(c.errorOf("watch", err, nil))
		}
	}

	c.replica.applyList(&c.listing, false)
	c.replica.resetLiveness(c.now)
	c.dropList()

	if c.watching {
		c.unpublished = true
		return c.wait()
	}

	// Even the same content is published: a restored etcd may have had another
	// one between the two lists.
	c.publish(nil)
	c.openWatch()

	return c.wait()
}

// addPage adds a page to the current list, and reports whether to read another
// page now. After an error, a later call may continue the list at this page.
func (c *core[T]) addPage(e event) (more bool, err error) {
	if e.err != nil {
		return c.listing.onError(e.err, c.name)
	}

	more, err = c.listing.add(e.read, &c.replica.set)
	if err != nil {
		c.dropList()
	}

	return more, err
}

// dropList makes the next list begin with the first page.
func (c *core[T]) dropList() {
	c.listing = listing[T]{}
}

// onLocalList publishes one member's own view, which may be behind etcd, with
// the reason why etcd itself was not read.
func (c *core[T]) onLocalList(e event, err error) action {
	if err == nil {
		c.replica.applyList(&c.listing, true)
		c.unpublished = true
	}

	c.fail(c.lastErr)
	c.dropList()

	return c.listAgain(e, err)
}

// fail publishes and logs an error that differs from the last one.
func (c *core[T]) fail(err error) {
	same := etcderr.Same(err, c.lastErr)
	if c.unpublished || !same {
		c.publish(err)
	}

	// a first list that is late is not logged: etcd may be far away
	first := !c.tried && (!c.replica.known || c.replica.provisional)
	late := first && etcderr.TimedOut(err)
	if late || same && c.failureLogged {
		return
	}

	c.failureLogged = true
	c.warnLimited(&c.fails, "etcd list failed; trying again", "key", c.name, "error", err)
}

// retry repeats a failed list. If nothing is known after a second try without
// an answer, it reads one member's own view: etcd may be without a leader.
// While there is a watch, it leaves the list to the next proof.
func (c *core[T]) retry(e event, err error) action {
	c.fail(c.errorOf("list", err, e.why))

	if e.pending && c.tried && !c.replica.known && c.listing.header == nil {
		return c.list(true)
	}

	c.tried = true

	if c.watching {
		c.dropList()
		c.proveLater()

		return c.wait()
	}

	return c.listAgain(e, err)
}

// listAgain begins the next list: at once if a local list has succeeded, or if
// the conversation repeats the failed read. Otherwise it first pauses.
func (c *core[T]) listAgain(e event, err error) action {
	switch {
	case err == nil, e.pending:
		return c.list(false)
	case etcderr.Refused(err):
		return action{call: callPause, pause: c.refusals.Bound()}
	default:
		return action{call: callPause, pause: c.rebuilds.Bound()}
	}
}

// rebuild closes the watch, and lists the range again after a pause. The pause
// is 25 to 50 ms if the watch was open for longer than steadyAfter. rebuild
// publishes no error: as far as known, the published content is current.
func (c *core[T]) rebuild(err error) action {
	cause := relistCause(err)
	steady := !c.openedAt.IsZero() && c.now.Sub(c.openedAt) > steadyAfter

	// It is no interruption if the watch of a quiet range has moved to another
	// stream, and etcd has compacted the revision from which the watch
	// continues.
	moved := cause == "compacted" && !steady
	if !moved && !c.failureLogged {
		c.failureLogged = true
		c.note(true, "etcd watch interrupted; listing again", "key", c.name, "error", err)
	}

	if steady {
		c.rebuilds.Reset()
	}

	c.closeWatch()
	c.effects.relisted = cause

	// A stream that hides changes is useless. If etcd refuses a young watch,
	// the token of its stream may have expired.
	hides := cause == "missed" || cause == "replaced"
	refused := cause == "denied" || cause == "watch_error"
	c.effects.retire = hides || refused && !steady

	return action{call: callPause, pause: c.rebuilds.Bound()}
}

func (c *core[T]) openWatch() {
	c.watching = true
	c.effects.open = c.replica.nextRevision()
}

func (c *core[T]) closeWatch() {
	c.effects.closeWatch = true
	c.watching = false
	c.openedAt = time.Time{}
	c.dropList()
}

// onLost publishes the reason why the connection to etcd is down. The range
// reads nothing until an event reports that the connection is back. A watch
// that is being opened is given up, and an open one is left to the etcd client.
func (c *core[T]) onLost(down error) action {
	if err := c.errorOf("watch", down, nil); !etcderr.Same(err, c.lastErr) {
		c.publish(err)
	}

	c.dropList()

	if !c.openedAt.IsZero() {
		c.replica.prove(c.now.Add(never))
		return c.wait()
	}

	c.closeWatch()

	return action{call: callPause, pause: never}
}

// onWake handles the event that ended a wait.
func (c *core[T]) onWake(e event) action {
	due := c.replica.due

	switch {
	case e.proof:
		return c.onProof(e)
	case e.opened:
		c.replica.resetLiveness(c.now)
		c.openedAt = c.now

	case e.answer != nil:
		var changed bool
		changed, e.err = c.replica.applyAnswer(e.answer, c.now)
		if changed {
			c.unpublished = true
			c.gathered++
			c.quietAt = c.now.Add(max(minQuiet, quietCosts*c.cost))
		}

	case e.back:
		c.resumed = c.replica.nextRevision()
		c.replica.calm = false
		due = c.now.Add(reconnectPause)
	}

	// no answer of the watch delays this proof: etcd may be another one
	if c.resumed != 0 {
		c.replica.prove(due)
	}

	if e.err != nil {
		return c.rebuild(c.errorOf("watch", e.err, e.why))
	}

	if e.answer != nil {
		c.recovered()

		// while the range keeps changing, no proof agrees
		if c.resumed != 0 && !c.replica.due.After(c.now) {
			return c.list(false)
		}
	}

	return c.wait()
}

// proveLater schedules the next proof after one without an answer.
func (c *core[T]) proveLater() {
	c.replica.prove(c.now.Add(min(proveAgain, c.replica.every)))
}

// wait waits for the watch, and for a proof when it is due.
func (c *core[T]) wait() action {
	c.flush()

	r := &c.replica
	proof := &wish{early: r.early, due: r.due, asOf: r.revision}
	a := action{call: callWait, until: c.now.Add(never), wish: proof}

	if c.unpublished {
		a.until = c.updateDue()
	}

	return a
}

// onProof handles the outcome of a proof. A failed proof says nothing about the
// watch, so the watch stays open. An etcd that is silent, overloaded or refuses
// reads would open no other watch, but it continues an open one even if the
// user may no longer read. If the proof failed but did not time out, the
// conversation repeats it.
func (c *core[T]) onProof(e event) action {
	switch {
	case e.pending && !etcderr.TimedOut(e.err):
		return c.wait()
	case e.err != nil:
		c.proveLater()

		if etcderr.Refused(e.err) {
			c.replica.prove(c.now.Add(proveEvery))
		}

		c.fail(c.errorOf("list", e.err, e.why))

		return c.wait()
	}

	opening := c.openedAt.IsZero()
	resumed := c.resumed != 0

	// After a change, a proof that agrees does not show that etcd is the same
	// as before. While etcd is slow to open or to resume the watch, a proof
	// that differs does not show that the watch misses a change: the change may
	// come later.
	changed := resumed && c.replica.applied >= c.resumed
	if changed || (opening || resumed) && !c.replica.agrees(e.read) {
		return c.list(false)
	}

	c.resumed = 0

	if err := c.replica.checkProof(e.read, e.asOf, c.now, e.took); err != nil {
		return c.rebuild(c.errorOf("watch", err, e.why))
	}

	switch {
	case c.replica.set.hasRoom():
		return c.list(false)
	case opening:
		c.proveLater()
	case c.replica.calm:
		c.recovered()
	}

	return c.wait()
}

// recovered logs that the watch works again.
func (c *core[T]) recovered() {
	if c.failureLogged {
		c.failureLogged = false
		c.note(false, "etcd watch restored",
			"key", c.name, "revision", c.replica.revision)
	}

	if c.lastErr != nil {
		c.unpublished = true
	}
}

// flush publishes a change once it is due. The end of an error is published
// without a pause.
func (c *core[T]) flush() {
	if c.unpublished && (c.lastErr != nil || !c.updateDue().After(c.now)) {
		c.publish(nil)
	}
}

// updateDue returns when to publish a change: after the pause, or earlier if no
// more changes come.
func (c *core[T]) updateDue() time.Time {
	if c.quietAt.Before(c.publishAt) {
		return c.quietAt
	}

	return c.publishAt
}

func (c *core[T]) publish(err error) {
	c.effects.update = &Update[T]{Snapshot: c.replica.snapshot(), Err: err}
	c.unpublished = false
	c.lastErr = err
}

func (c *core[T]) malformed(key string, err error) {
	c.effects.malformed++
	c.warnLimited(&c.lines, "malformed value in etcd skipped", "key", key, "error", err)
}

// noteTruncated logs that entries begin to be left out, and later that all fit
// again.
func (c *core[T]) noteTruncated() {
	s := &c.replica.set
	if s.truncated == c.truncatedLogged {
		return
	}

	c.truncatedLogged = s.truncated

	text := "all that etcd has under the key is kept again"
	if s.truncated {
		text = "etcd has more under the key than is kept; the rest is left out"
	}

	c.warnLimited(&c.lines, text, "key", c.name, "kept", s.used.entries,
		"bytes", s.used.bytes, "in_etcd", c.replica.total)
}

// warnLimited logs a warning if the limiter allows another line: writers of the
// range, or etcd, can cause the warning at any rate.
func (c *core[T]) warnLimited(limiter *loglimit.Limiter, text string, args ...any) {
	if ok, missed := limiter.Allow(c.now); ok {
		c.note(true, text, loglimit.Attrs(missed, args...)...)
	}
}

func (c *core[T]) note(warn bool, text string, args ...any) {
	c.effects.notes = append(c.effects.notes, note{warn, text, args})
}

// errorOf returns an error with the failed call, the range and the cause: err
// may be a timeout without a reason.
func (c *core[T]) errorOf(what string, err, why error) error {
	err = etcderr.With(err, why)
	if etcderr.Code(err) == codes.PermissionDenied {
		err = fmt.Errorf(
			"%w (the etcd user's role lacks READ permission for this range)", err)
	}

	return fmt.Errorf("etcd: %s %q: %w", what, c.name, err)
}

// Causes are all causes that [Hooks].Relisted can be called with, for metrics.
var Causes = []string{"compacted", "replaced", "missed", "closed", "no_leader",
	"denied", "watch_error"}

// relistCause returns the cause of an error for metrics, one of [Causes].
func relistCause(err error) string {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return "compacted"
	case errors.Is(err, errReplaced), errors.Is(err, errCluster):
		return "replaced"
	case errors.Is(err, errMissed):
		return "missed"
	case errors.Is(err, errClosed):
		return "closed"
	case errors.Is(err, rpctypes.ErrNoLeader):
		return "no_leader"
	case etcderr.Refused(err):
		return "denied"
	}

	return "watch_error"
}

const (
	// maxPause bounds the pause between two updates.
	maxPause = 500 * time.Millisecond

	// A pause ends early if the watch has no change for minQuiet, and for
	// quietCosts times as long as the last update took.
	minQuiet   = 10 * time.Millisecond
	quietCosts = 20
)

// Pause returns the pause after an update with this many changes, which its
// user took this long to handle. After one change the pause is as long as took,
// so that single changes are hardly delayed. It grows with the square of the
// number of changes, up to maxPause, so that an update gathers more changes if
// they come fast. A rollout of 3,000 endpoints makes 5 updates; without the
// square it makes 13.
func Pause(took time.Duration, changes int) time.Duration {
	changes = min(changes, 1000) // against overflow

	return min(min(took, maxPause)*time.Duration(changes*changes), maxPause)
}
