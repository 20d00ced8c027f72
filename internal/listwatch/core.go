package listwatch

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

const (
	// The timeout of a list's pages starts at firstListTimeout, so that soon one member's own view is read instead. It doubles up to
	// maxListTimeout.
	firstListTimeout = time.Second
	maxListTimeout   = 10 * time.Second
	localListTimeout = 500 * time.Millisecond
	probeTimeout     = 5 * time.Second // more if a list took longer
	watchTimeout     = 5 * time.Second

	// If a watch older than steadyAfter fails, its range is listed again after the shortest pause, 25 to 50 ms.
	steadyAfter = 5 * time.Second

	// firstRetryPause bounds the pause after a first failure, and firstRefusedPause the pause after a first refusal.
	// A refusal usually lasts until someone changes the configuration.
	firstRetryPause   = 50 * time.Millisecond
	maxListPause      = time.Second
	maxWatchPause     = 5 * time.Second
	firstRefusedPause = 500 * time.Millisecond
	lostPause         = time.Hour // bounds the pause of a range that waits for the connection
)

// errNotOpened is the outcome of callWatch if etcd has not answered in time.
var errNotOpened = errors.New("etcd did not open the watch")

// call is a step of the shell that takes time. The shell reports the outcome as the next event.
type call int

const (
	callPause     call = iota // wait for half of the timeout or longer, or until the connection to etcd is back
	callList                  // read a page of the range
	callListLocal             // read a page from one member, without a leader
	callWatch                 // open a watch that starts at a revision
	callWait                  // wait until a time, an answer of the watch, or trouble
	callVerify                // read a page of the range while the watch is open
	callProbe                 // read the number of keys and the key changed last
)

// event is the outcome of a call. The zero value means that a pause is over, a time is reached, or a watch is open.
type event struct {
	read   *clientv3.GetResponse   // callList, callListLocal, callVerify, callProbe
	answer *clientv3.WatchResponse // callWait, callProbe
	doubt  bool                    // callWait, callProbe: another range of the client doubts etcd
	back   bool                    // callPause, callWatch, callWait, callProbe: the connection to etcd is back
	lost   error                   // why etcd is not connected; set instead of back
	err    error                   // the call failed or, during callWait and callProbe, the watch ended
	why    error                   // the cause of err, such as why the connection to etcd is down

	ranges int // the number of ranges followed through the etcd client
}

// step is the next step of the shell: apply the effects, in the order of their fields, and then make the call.
type step[T any] struct {
	effects[T]
	action
}

// effects are actions of the shell that do not wait.
type effects[T any] struct {
	closeWatch bool       // close the watch, and open later watches on another stream
	doubt      bool       // make the other ranges of the client list again
	relisted   string     // count a repeated list under this cause, none if it is ""
	malformed  []string   // count the malformed values of these keys
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
	call     call
	timeout  time.Duration // the longest time of the call; for callPause, of the pause
	page     page          // for callList, callListLocal and callVerify
	revision int64         // for callWatch, the first revision
	until    time.Time     // for callWait, its end
}

// core follows one range of etcd keys: it decides which call to make, interprets the answers, and decides when to publish an update.
//
//	list ──▶ watch ──▶ wait ◀──▶ verify, probe
//	 ▲ │       │        │          │
//	 │ ▼       ▼        ▼          │
//	pause ◀────────────────────────┘
//
// It does no I/O and reads no clock: step takes an event and the time, and returns the next step.
type core[T any] struct {
	name    string // the first key of the range, for logs and errors
	replica replica[T]
	doing   call
	effects effects[T] // for the shell, in this step

	listing     listing[T]      // the list in progress, made by callList, callListLocal or callVerify
	listTimeout time.Duration   // the timeout of the next page
	slowest     time.Duration   // the longest timeout of a page that etcd answered in time
	listErr     error           // why callList failed, during the callListLocal that follows it
	retries     backoff.Backoff // the pauses after failed lists
	refusals    backoff.Backoff // the pauses after refused lists
	rebuilds    backoff.Backoff // the pauses after failed watches

	openedAt time.Time // when the watch was opened, zero while none is open

	unpublished     bool          // the content changed since the last update
	gathered        int           // the watch answers that changed the content since the last call of published
	next            time.Time     // when the next update may be published
	quiet           time.Time     // an earlier time for that, if no more changes are likely to come
	cost            time.Duration // how long the user of the last update took
	lastErr         error         // the error of the last update
	failureLogged   bool          // a failure was logged, but not its end
	truncatedLogged bool          // a truncation was logged, but not its end

	every time.Duration    // how long a watch may be silent before a probe, if the client follows few ranges
	now   time.Time        // of this step
	lines loglimit.Limiter // for log lines that writers of the range can cause
	fails loglimit.Limiter // for log lines about failed lists
}

func newCore[T any](spec Spec[T], cfg *Config[T]) *core[T] {
	c := &core[T]{
		name:        spec.Range.From,
		listTimeout: firstListTimeout,
		retries:     backoff.Backoff{Base: firstRetryPause, Max: maxListPause},
		refusals:    backoff.Backoff{Base: firstRefusedPause, Max: max(cfg.MaxRefusedPause, firstRefusedPause)},
		rebuilds:    backoff.Backoff{Base: firstRetryPause, Max: maxWatchPause},
	}
	c.every = cmp.Or(cfg.ProbeEvery, probeEvery)
	if cfg.Streams.room == nil { // no event reports a reconnect, after which etcd may be another one
		c.every = probeSoon
	}
	c.replica.spread = uint8(maphash.String(seed, spec.Range.From))
	c.replica.set = set[T]{decode: spec.Decode, equal: cfg.Equal, malformed: c.malformed, size: cfg.Size, bounds: cfg.Bounds}
	c.replica.set.maxKey = len(spec.Range.From) + endpoint.MaxInstance
	return c
}

// step takes the outcome of the last call, and returns the next step. The first event is the zero value.
func (c *core[T]) step(e event, now time.Time) step[T] {
	c.effects, c.now = effects[T]{}, now
	c.replica.every = max(c.every, time.Duration(e.ranges)*probeSpacing)
	next := c.act(e)
	c.noteTruncated()
	c.doing = next.call
	return step[T]{c.effects, next}
}

// published records how long the user took to handle the last update, and when the user returned.
func (c *core[T]) published(took time.Duration, at time.Time) {
	c.next, c.cost = at.Add(Pause(took, max(c.gathered, 1))), took
	c.quiet, c.gathered = c.next, 0
}

func (c *core[T]) act(e event) action {
	if e.lost != nil {
		return c.lost(e.lost)
	}
	switch c.doing {
	case callList:
		return c.listed(e)
	case callListLocal:
		return c.listedLocal(e)
	case callWatch:
		return c.opened(e)
	case callWait:
		return c.woken(e)
	case callVerify:
		return c.verified(e)
	case callProbe:
		return c.probed(e)
	}
	if e.back {
		c.listing = listing[T]{} // the list may have begun with another etcd
	}
	return c.list(callList, c.listTimeout) // a pause is over, or the connection is back
}

// list reads the next page of the current list.
func (c *core[T]) list(call call, timeout time.Duration) action {
	return action{call: call, timeout: timeout, page: c.listing.page()}
}

// page handles the outcome of reading a page, and reports whether to read another page now. After
// an error, a later call may continue the list at this page.
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

// listed follows a list with a watch. If nothing is known and etcd does not answer the list, it reads one member's view instead.
func (c *core[T]) listed(e event) action {
	more, err := c.page(e)
	switch {
	case more:
		return c.list(callList, c.listTimeout)
	case err == nil:
	case e.err == nil || c.replica.known || c.listing.header != nil || etcderr.Refused(err):
		return c.retry(err, e.why)
	default:
		c.listErr = etcderr.With(err, e.why)
		return c.list(callListLocal, localListTimeout)
	}
	c.slowest, c.listTimeout = max(c.slowest, c.listTimeout), firstListTimeout
	c.retries.Reset()
	c.refusals.Reset()
	c.replica.listed(c.listDone(), false)
	c.publish(nil) // even the same content: between the lists, it may have been different in a restored etcd
	return action{call: callWatch, timeout: watchTimeout, revision: c.replica.applied + 1}
}

// listDone ends the current list, which is complete, and returns it.
func (c *core[T]) listDone() *listing[T] {
	done := c.listing
	c.listing = listing[T]{}
	return &done
}

func (c *core[T]) listedLocal(e event) action {
	more, err := c.page(e)
	if more {
		return c.list(callListLocal, localListTimeout)
	}
	if err == nil {
		c.replica.listed(c.listDone(), true)
		c.unpublished = true
	}
	c.listing = listing[T]{}
	return c.retry(c.listErr, e.why)
}

// fail publishes and logs an error that differs from the last one.
func (c *core[T]) fail(err error) {
	same := etcderr.Same(err, c.lastErr)
	if c.unpublished || !same {
		c.publish(err)
	}
	silent := etcdcause.Silent("")
	begun := c.replica.known && !c.replica.provisional
	soon := !begun && c.listTimeout == firstListTimeout && errors.As(err, &silent) // etcd may be far away
	if !soon && !(same && c.failureLogged) {
		c.failureLogged = true
		c.limited(&c.fails, "etcd list failed; trying again", "key", c.name, "error", err)
	}
}

// retry repeats a failed list after a pause.
func (c *core[T]) retry(err, why error) action {
	err = c.errorOf("list", err, why)
	c.fail(err)
	c.listTimeout = min(2*c.listTimeout, maxListTimeout)
	if etcderr.Refused(err) {
		return action{call: callPause, timeout: c.refusals.Bound()}
	}
	return action{call: callPause, timeout: c.retries.Bound()}
}

// rebuild closes the watch, and lists the range again after a pause: 25 to 50 ms if the watch was open for longer
// than steadyAfter. It publishes no error: the published content is current, as far as known.
func (c *core[T]) rebuild(err error) action {
	if !c.failureLogged {
		c.failureLogged = true
		c.note(true, "etcd watch interrupted; listing again", "key", c.name, "error", err)
	}
	c.effects.closeWatch, c.effects.relisted = true, relistCause(err)
	if !c.openedAt.IsZero() && c.now.Sub(c.openedAt) > steadyAfter {
		c.rebuilds.Reset()
	}
	c.openedAt, c.listing = time.Time{}, listing[T]{}
	return action{call: callPause, timeout: c.rebuilds.Bound()}
}

// lost publishes the reason why the connection to etcd is down. The range makes no call until an event reports that the
// connection is back.
func (c *core[T]) lost(down error) action {
	if err := c.errorOf("watch", down, nil); !etcderr.Same(err, c.lastErr) {
		c.publish(err)
	}
	if c.openedAt.IsZero() {
		return action{call: callPause, timeout: lostPause}
	}
	c.replica.due = c.now.Add(lostPause)
	return c.wait()
}

func (c *core[T]) opened(e event) action {
	if e.back { // it is not open yet
		return c.list(callList, c.listTimeout)
	}
	if e.err != nil {
		return c.rebuild(c.errorOf("watch", e.err, e.why))
	}
	c.replica.resetLiveness(c.now)
	c.openedAt = c.now
	return c.wait()
}

// woken handles the event that ended a wait.
func (c *core[T]) woken(e event) action {
	if e.answer != nil {
		var changed bool
		if changed, e.err = c.replica.heard(e.answer, c.now); changed {
			c.unpublished = true
			c.gathered++
			c.quiet = c.now.Add(max(minQuiet, quietCosts*c.cost))
		}
	}
	if e.err != nil {
		return c.rebuild(c.errorOf("watch", e.err, e.why))
	}
	if e.answer != nil {
		c.recovered()
	}
	if e.back || e.doubt && c.replica.calm {
		c.flush()
		return c.list(callVerify, maxListTimeout)
	}
	return c.wait()
}

// wait waits for the watch, or probes the range if a probe is due.
func (c *core[T]) wait() action {
	c.flush()
	until := c.replica.due
	if !until.After(c.now) {
		return action{call: callProbe, timeout: max(probeTimeout, c.slowest)}
	}
	if due := c.due(); c.unpublished && due.Before(until) {
		until = due
	}
	return action{call: callWait, until: until}
}

func (c *core[T]) verified(e event) action {
	more, err := c.page(e)
	switch {
	case more:
		return c.list(callVerify, maxListTimeout)
	case err != nil:
		return c.rebuild(c.errorOf("list", err, e.why))
	}
	if err := c.replica.verified(c.listDone(), c.now); err != nil {
		return c.rebuild(c.errorOf("watch", err, e.why))
	}
	c.unpublished = true
	return c.wait()
}

// probed handles the outcome of a probe. A failed probe says nothing about the watch: etcd is silent, overloaded, or now refuses
// reads. Then etcd would not open another watch either, while it continues the open one even without permission to read.
func (c *core[T]) probed(e event) action {
	switch {
	case e.read == nil && (e.err == nil || errors.Is(e.err, errClosed)): // another event ended the probe
		return c.woken(e)
	case e.err != nil:
		c.replica.due = c.now.Add(min(probeAgain, c.replica.every))
		c.fail(c.errorOf("list", e.err, e.why))
		return c.wait()
	}
	if err := c.replica.probed(e.read, c.now); err != nil {
		c.effects.doubt = true
		return c.rebuild(c.errorOf("watch", err, e.why))
	}
	if c.replica.calm {
		c.recovered()
	}
	if c.replica.set.hasRoom() {
		return c.list(callVerify, maxListTimeout)
	}
	return c.wait()
}

// recovered logs that the watch works again.
func (c *core[T]) recovered() {
	if c.failureLogged {
		c.failureLogged = false
		c.note(false, "etcd watch restored", "key", c.name, "revision", c.replica.revision)
	}
	if c.lastErr != nil {
		c.unpublished = true
	}
}

// flush publishes a change once it is due. The end of an error is published without a pause.
func (c *core[T]) flush() {
	if c.unpublished && (c.lastErr != nil || !c.due().After(c.now)) {
		c.publish(nil)
	}
}

// due returns when to publish a change: after the pause, or earlier if no more changes come.
func (c *core[T]) due() time.Time {
	if c.quiet.Before(c.next) {
		return c.quiet
	}
	return c.next
}

func (c *core[T]) publish(err error) {
	c.effects.update = &Update[T]{Snapshot: c.replica.snapshot(), Err: err}
	c.unpublished, c.lastErr = false, err
}

func (c *core[T]) malformed(key string, err error) {
	c.effects.malformed = append(c.effects.malformed, key)
	c.limited(&c.lines, "malformed value in etcd skipped", "key", key, "error", err)
}

// noteTruncated logs that entries begin to be left out, and later that all fit again.
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
	c.limited(&c.lines, text, "key", c.name, "kept", s.used.entries, "bytes", s.used.bytes, "in_etcd", c.replica.total)
}

// limited logs a warning if the limiter allows another line: writers of the range, or etcd, can cause the warning at any rate.
func (c *core[T]) limited(limiter *loglimit.Limiter, text string, args ...any) {
	if ok, missed := limiter.Allow(c.now); ok {
		c.note(true, text, loglimit.Attrs(missed, args...)...)
	}
}

func (c *core[T]) note(warn bool, text string, args ...any) {
	c.effects.notes = append(c.effects.notes, note{warn, text, args})
}

// errorOf returns an error with the failed call, the range and the cause: err may be a timeout without a reason.
func (c *core[T]) errorOf(what string, err, why error) error {
	err = etcderr.With(err, why)
	if etcderr.Code(err) == codes.PermissionDenied {
		err = fmt.Errorf("%w (the etcd user's role lacks READ permission for this range)", err)
	}
	return fmt.Errorf("etcd: %s %q: %w", what, c.name, err)
}

// Causes are all causes that [Hooks].Relisted can be called with, for metrics.
var Causes = []string{"compacted", "replaced", "missed", "closed", "no_leader", "denied", "watch_error"}

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
	// A pause ends early if the watch has no change for minQuiet, and for quietCosts times as long as the last update took.
	minQuiet   = 10 * time.Millisecond
	quietCosts = 20
)

// Pause returns the pause after an update that had this many changes and took the time took. After one change the pause is as long as
// took, so that single changes are hardly delayed. It grows with the square of the number of changes, up to maxPause, so that an
// update gathers more changes if they come fast. A rollout of 3,000 endpoints makes 5 updates; without the square it makes 13.
func Pause(took time.Duration, changes int) time.Duration {
	changes = min(changes, 1000) // against overflow
	return min(min(took, maxPause)*time.Duration(changes*changes), maxPause)
}
