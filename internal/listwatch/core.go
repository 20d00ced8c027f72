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

	// firstRebuildPause bounds the pause after a first failed watch, or list
	// that nothing else repeats.
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
	callPause call = iota // the end of a pause, or until the connection to etcd is back
	callList              // a page of the range

	// a time, the opening or an answer of the watch, a proof, or trouble
	callWait
)

// event is what the shell has waited for. The zero value means that a pause is
// over, or a time is reached.
type event struct {
	read  *clientv3.GetResponse // callList, and callWait if proof is set
	proof bool                  // callWait: read or err is the outcome of a proof

	// the highest revision that was known before the request for read
	asOf int64

	took   time.Duration           // how long etcd took for read
	opened bool                    // callWait: the watch is open
	answer *clientv3.WatchResponse // callWait

	// the connection to etcd is back, or must be taken for that
	back bool

	moved bool  // besides, the watch must move to another stream
	lost  error // why etcd is not connected; set instead of back

	// the read failed or, during callWait, the watch did not open, or ended
	err error

	// the wish stays: etcd is late, or the conversation repeats the read
	again bool

	// the cause of err, such as why the connection to etcd is down
	why error
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
	pause time.Duration // for callPause, bounds the pause
	until time.Time     // for the other calls, when the wait ends without another event
	wish  *wish         // what the range wants to read meanwhile, nil for nothing
}

// core follows one range of etcd keys: it decides what to read, interprets the
// answers, and decides when to publish an update.
//
//	list ◀──▶ wait
//	 ▲ │       │
//	 │ ▼       │
//	pause ◀────┘
//
// While it waits, a watch is open or being opened, and the range is proven. It
// does no I/O and reads no clock: step takes an event and the time, and returns
// the next step.
type core[T any] struct {
	name    string // the first key of the range, for logs and errors
	replica replica[T]
	doing   action
	effects effects[T] // for the shell, in this step

	listing  listing[T]      // the list in progress
	tried    bool            // a list has failed since the last one that succeeded
	refusals backoff.Backoff // the pauses after refused lists
	rebuilds backoff.Backoff // the pauses after failed watches

	// where the watch continued after the connection came back or the watch
	// moved; 0 if no proof is owed since then
	resumed int64

	watching bool      // a watch is open or being opened
	openedAt time.Time // when the watch was opened, zero while none is open

	unpublished bool // the content changed since the last update

	// the watch answers that changed the content since the last call of
	// published
	gathered int

	next time.Time // when the next update may be published

	// an earlier time for that, if no more changes are likely to come
	quiet time.Time

	cost            time.Duration // how long the user of the last update took
	lastErr         error         // the error of the last update
	failureLogged   bool          // a failure was logged, but not its end
	truncatedLogged bool          // a truncation was logged, but not its end

	now   time.Time        // of this step
	lines loglimit.Limiter // for log lines that writers of the range can cause
	fails loglimit.Limiter // for log lines about failed lists
}

func newCore[T any](in Range, decode Decode[T], cfg *Config[T]) *core[T] {
	c := &core[T]{
		name: in.From,
		refusals: backoff.Backoff{
			Base: cfg.MaxRefusedPause / 10,
			Max:  cfg.MaxRefusedPause,
		},
		rebuilds: backoff.Backoff{Base: firstRebuildPause, Max: maxRebuildPause},
	}

	c.replica.every = proveEvery
	// no event reports a reconnect, after which etcd may be another one
	if cfg.Conversation.connected == nil {
		c.replica.every = proveSoon
	}

	c.replica.spread = cfg.Conversation.spread

	if cfg.Equal == nil {
		cfg.Equal = func(a, b T) bool { return any(a) == any(b) }
	}

	c.replica.set = set[T]{
		decode:    decode,
		equal:     cfg.Equal,
		malformed: c.malformed,
		size:      cfg.Size,
		bounds:    cfg.Bounds,
	}

	c.replica.set.maxKey = len(in.From) + endpoint.MaxInstance

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
	c.next = at.Add(Pause(took, max(c.gathered, 1)))
	c.cost = took
	c.quiet = c.next
	c.gathered = 0
}

func (c *core[T]) act(e event) action {
	if e.moved {
		c.closeWatch()
		c.open()
	}

	switch {
	case e.lost != nil:
		return c.lost(e.lost)
	case c.doing.call == callWait:
		return c.woken(e)
	case e.back: // the list may have begun with another etcd
		c.listing = listing[T]{}
		return c.list(false)
	case c.doing.call == callPause:
		return c.list(false)
	}

	return c.listed(e)
}

// list reads the next page of the current list, by one member alone if local.
func (c *core[T]) list(local bool) action {
	a := action{
		call:  callList,
		until: c.now.Add(never),
		wish:  &wish{page: c.listing.page()},
	}

	a.wish.page.local = local

	if !c.replica.known && !c.tried && c.listing.header == nil {
		a.until = c.now.Add(silentAfter)
	}

	return a
}

// listed handles the outcome of reading a page. After the last page it opens a
// watch, unless the list was made beside one.
func (c *core[T]) listed(e event) action {
	local := c.doing.wish.page.local
	more, err := c.page(e)
	switch {
	case more:
		return c.list(local)
	case local:
		return c.listedLocal(e, err)
	case err != nil:
		return c.retry(e, err)
	}

	c.tried = false
	c.resumed = 0
	c.refusals.Reset()
	done := c.listDone()

	if c.watching {
		if err := c.replica.precedes(done.header); err != nil {
			return c.rebuild(c.errorOf("watch", err, nil))
		}
	}

	c.replica.listed(done, false)
	c.replica.resetLiveness(c.now)

	if c.watching {
		c.unpublished = true
		return c.wait()
	}

	// even the same content: between the lists, it may have been different in a
	// restored etcd
	c.publish(nil)
	c.open()

	return c.wait()
}

// page handles the outcome of reading a page, and reports whether to read
// another page now. After an error, a later call may continue the list at this
// page.
func (c *core[T]) page(e event) (more bool, err error) {
	if e.err != nil {
		return c.listing.failed(e.err, c.name)
	}

	more, err = c.listing.take(e.read, &c.replica.set)
	if err != nil {
		c.listing = listing[T]{}
	}

	return more, err
}

// listDone ends the current list, which is complete, and returns it.
func (c *core[T]) listDone() *listing[T] {
	done := c.listing
	c.listing = listing[T]{}

	return &done
}

// listedLocal publishes one member's own view, which may be behind etcd, with
// the reason why etcd itself was not read.
func (c *core[T]) listedLocal(e event, err error) action {
	if err == nil {
		c.replica.listed(c.listDone(), true)
		c.unpublished = true
	}

	c.fail(c.lastErr)
	c.listing = listing[T]{}

	return c.listAgain(e, err)
}

// fail publishes and logs an error that differs from the last one.
func (c *core[T]) fail(err error) {
	same := etcderr.Same(err, c.lastErr)
	if c.unpublished || !same {
		c.publish(err)
	}

	// etcd may be far away
	soon := (!c.replica.known || c.replica.provisional) &&
		!c.tried &&
		etcderr.TimedOut(err)
	if !soon && !(same && c.failureLogged) {
		c.failureLogged = true
		c.limited(&c.fails, "etcd list failed; trying again", "key", c.name, "error", err)
	}
}

// retry repeats a failed list. After a second try without an answer, while
// nothing is known, it reads one member's own view: etcd may be without a
// leader. A list beside a watch is left to the next proof.
func (c *core[T]) retry(e event, err error) action {
	c.fail(c.errorOf("list", err, e.why))

	if e.again && c.tried && !c.replica.known && c.listing.header == nil {
		return c.list(true)
	}

	c.tried = true

	if c.watching {
		c.listing = listing[T]{}
		c.proveLater()

		return c.wait()
	}

	return c.listAgain(e, err)
}

// listAgain begins the next list: at once if the conversation repeats it or
// this was a local one, else after a pause.
func (c *core[T]) listAgain(e event, err error) action {
	switch {
	case err == nil, e.again:
		return c.list(false)
	case etcderr.Refused(err):
		return action{call: callPause, pause: c.refusals.Bound()}
	default:
		return action{call: callPause, pause: c.rebuilds.Bound()}
	}
}

// rebuild closes the watch, and lists the range again after a pause: 25 to 50
// ms if the watch was open for longer than steadyAfter. It publishes no error:
// the published content is current, as far as known.
func (c *core[T]) rebuild(err error) action {
	cause := relistCause(err)
	steady := !c.openedAt.IsZero() && c.now.Sub(c.openedAt) > steadyAfter

	// the watch of a quiet range has moved: it was not interrupted
	late := cause == "compacted" && !steady
	if !c.failureLogged && !late {
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
	refused := cause == "denied" || cause == "watch_error"
	c.effects.retire = cause == "missed" || cause == "replaced" || refused && !steady

	return action{call: callPause, pause: c.rebuilds.Bound()}
}

func (c *core[T]) open() {
	c.watching = true
	c.effects.open = c.replica.next()
}

func (c *core[T]) closeWatch() {
	c.effects.closeWatch = true
	c.watching = false
	c.openedAt = time.Time{}
	c.listing = listing[T]{}
}

// lost publishes the reason why the connection to etcd is down. The range reads
// nothing until an event reports that the connection is back. A watch that is
// being opened is given up, and an open one is left to the etcd client.
func (c *core[T]) lost(down error) action {
	if err := c.errorOf("watch", down, nil); !etcderr.Same(err, c.lastErr) {
		c.publish(err)
	}

	c.listing = listing[T]{}

	if !c.openedAt.IsZero() {
		c.replica.prove(c.now.Add(never))
		return c.wait()
	}

	c.closeWatch()

	return action{call: callPause, pause: never}
}

// woken handles the event that ended a wait.
func (c *core[T]) woken(e event) action {
	due := c.replica.due

	switch {
	case e.proof:
		return c.proven(e)
	case e.opened:
		c.replica.resetLiveness(c.now)
		c.openedAt = c.now

	case e.answer != nil:
		var changed bool
		changed, e.err = c.replica.heard(e.answer, c.now)
		if changed {
			c.unpublished = true
			c.gathered++
			c.quiet = c.now.Add(max(minQuiet, quietCosts*c.cost))
		}

	case e.back:
		c.resumed = c.replica.next()
		c.replica.calm = false
		due = c.now.Add(reconnectPause)
	}

	// what the watch tells does not delay the proof: etcd may be another one
	if c.resumed != 0 {
		c.replica.prove(due)
	}

	if e.err != nil {
		return c.rebuild(c.errorOf("watch", e.err, e.why))
	}

	if e.answer != nil {
		c.recovered()

		if c.resumed != 0 && !c.replica.due.After(c.now) {
			return c.list(false) // while the range keeps changing, no proof agrees
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

	a := action{call: callWait, until: c.now.Add(never), wish: &wish{
		early: c.replica.early,
		due:   c.replica.due,
		asOf:  c.replica.revision,
	}}
	if c.unpublished {
		a.until = c.due()
	}

	return a
}

// proven handles the outcome of a proof. A failed proof says nothing about the
// watch: etcd is silent, overloaded, or now refuses reads. Then etcd would not
// open another watch either, while it continues the open one even without
// permission to read. A proof that was only cut off is repeated.
func (c *core[T]) proven(e event) action {
	switch {
	case e.again && !etcderr.TimedOut(e.err):
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

	// so that a proof which agrees does not show that etcd is the same as
	// before
	changed := c.resumed != 0 && c.replica.applied >= c.resumed
	if changed || (opening || c.resumed != 0) && !c.replica.agrees(e.read) {
		// the watch, which etcd is slow to open or to resume, would report it
		return c.list(false)
	}

	c.resumed = 0

	if err := c.replica.proven(e.read, e.asOf, c.now, e.took); err != nil {
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
		c.note(false, "etcd watch restored", "key", c.name, "revision",
			c.replica.revision)
	}

	if c.lastErr != nil {
		c.unpublished = true
	}
}

// flush publishes a change once it is due. The end of an error is published
// without a pause.
func (c *core[T]) flush() {
	if c.unpublished && (c.lastErr != nil || !c.due().After(c.now)) {
		c.publish(nil)
	}
}

// due returns when to publish a change: after the pause, or earlier if no more
// changes come.
func (c *core[T]) due() time.Time {
	if c.quiet.Before(c.next) {
		return c.quiet
	}

	return c.next
}

func (c *core[T]) publish(err error) {
	c.effects.update = &Update[T]{Snapshot: c.replica.snapshot(), Err: err}
	c.unpublished = false
	c.lastErr = err
}

func (c *core[T]) malformed(key string, err error) {
	c.effects.malformed++
	c.limited(&c.lines, "malformed value in etcd skipped", "key", key, "error", err)
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

	c.limited(&c.lines, text, "key", c.name, "kept", s.used.entries, "bytes",
		s.used.bytes, "in_etcd", c.replica.total)
}

// limited logs a warning if the limiter allows another line: writers of the
// range, or etcd, can cause the warning at any rate.
func (c *core[T]) limited(limiter *loglimit.Limiter, text string, args ...any) {
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
var Causes = []string{"compacted", "replaced", "missed", "closed", "no_leader", "denied",
	"watch_error"}

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
	// maxPause is the longest pause between two updates.
	maxPause = 500 * time.Millisecond

	// A pause ends early if the watch has no change for minQuiet, and for
	// quietCosts times as long as the last update took.
	minQuiet   = 10 * time.Millisecond
	quietCosts = 20
)

// Pause returns the pause after an update that had this many changes and took
// the time took. After one change the pause is as long as took, so that single
// changes are hardly delayed. It grows with the square of the number of
// changes, up to maxPause, so that an update gathers more changes if they come
// fast. A rollout of 3,000 endpoints makes 5 updates; without the square it
// makes 13.
func Pause(took time.Duration, changes int) time.Duration {
	changes = min(changes, 1000) // against overflow
	return min(min(took, maxPause)*time.Duration(changes*changes), maxPause)
}
