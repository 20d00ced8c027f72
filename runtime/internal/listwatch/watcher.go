package listwatch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/etcderr"
)

const (
	// A list's bound starts at firstListBound, so that what can be used instead is used soon, and
	// grows to maxListBound, for a large range over a slow line.
	firstListBound       = time.Second
	maxListBound         = 10 * time.Second
	provisionalListBound = 500 * time.Millisecond // also of a look at the range

	watchBound = 5 * time.Second // for opening a watch
	probeBound = time.Second     // for asking for a sign of life

	// steadyAfter is how long a watch must have lived for the next failure to be retried at once.
	steadyAfter = 5 * time.Second

	// Publishing costs each user a pass over all items, so a burst is taken in steps: the first
	// change at once, the next after a pause that grows with the number of items.
	publishGap        = 10 * time.Millisecond
	publishGapPerItem = 20 * time.Microsecond
	maxPublishGap     = 500 * time.Millisecond
)

// streamKey is the metadata that tells watches' gRPC streams apart: the etcd client opens one
// stream for each distinct outgoing metadata.
const streamKey = "etcd-discovery-stream"

// watcher follows one range in a goroutine of its own.
type watcher[T any] struct {
	cfg     *Config[T]
	streams *streams
	rng     Range
	name    string        // of the range, for logs and errors
	check   chan struct{} // has the watch probed and verified at once

	// Used by run alone.
	machine     machine[T]
	retries     backoff.Backoff // of lists
	rebuilds    backoff.Backoff // of watches
	trouble     error           // why the range is not followed, once logged; nil: it is
	nextPublish time.Time
	unpublished bool // the content changed since it was last published

	mu    sync.Mutex // serialises deliveries; held while users are told
	users map[*func(Update[T])]struct{}
	last  Update[T]
}

func newWatcher[T any](cfg *Config[T], streams *streams, spec Spec[T], remembered *Snapshot[T]) *watcher[T] {
	w := &watcher[T]{
		cfg: cfg, streams: streams, rng: spec.Range, name: spec.Range.From,
		check:    make(chan struct{}, 1),
		users:    make(map[*func(Update[T])]struct{}),
		retries:  backoff.Backoff{Base: 50 * time.Millisecond, Max: time.Second},
		rebuilds: backoff.Backoff{Base: 50 * time.Millisecond, Max: 5 * time.Second},
	}
	w.machine.set = set[T]{decode: spec.Decode, equal: cfg.Equal, malformed: w.reportMalformed}
	if remembered != nil {
		w.machine.set.items = remembered.Items
		w.machine.known, w.machine.provisional = true, true
		w.machine.applied = remembered.Revision
	}
	return w
}

// run lists and follows until ctx ends.
func (w *watcher[T]) run(ctx context.Context) {
	for bound := firstListBound; ; bound = min(2*bound, maxListBound) {
		pause, listed := w.retries.Next, false
		err := w.list(ctx, bound)
		if err == nil {
			w.retries.Reset()
			bound, listed = firstListBound, true
			err = w.follow(ctx)
			pause = w.rebuilds.Next
		}
		if ctx.Err() != nil {
			return
		}
		w.fail(err, listed)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause()):
		}
	}
}

// list reads the range. The answer is linearizable; only with nothing known and no leader to ask
// is one member's own view taken, to be replaced as soon as there is a leader.
func (w *watcher[T]) list(ctx context.Context, bound time.Duration) error {
	resp, err := w.get(ctx, bound)
	if err == nil {
		// What the last watch heard and had no time to publish may be all that is new.
		if w.machine.listed(resp, false) || w.unpublished {
			w.publish(nil)
		}
		return nil
	}
	if w.machine.known || etcderr.Refused(etcderr.Code(err)) || ctx.Err() != nil {
		return err
	}
	resp, fallbackErr := w.get(ctx, provisionalListBound, clientv3.WithSerializable())
	if fallbackErr == nil && w.machine.listed(resp, true) {
		w.publish(err)
	}
	return err
}

func (w *watcher[T]) get(ctx context.Context, bound time.Duration, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	resp, err := w.cfg.Client.Get(ctx, w.rng.From, w.rng.opts(opts...)...)
	if err != nil {
		return nil, fmt.Errorf("etcd: list %q: %w", w.name, explain(err))
	}
	return resp, nil
}

// follow watches from the list's revision on until the watch can no longer be trusted, and returns
// why.
func (w *watcher[T]) follow(ctx context.Context) (cause error) {
	stream := w.streams.current()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), streamKey, stream))
	defer cancel()
	opened := time.Now()
	defer func() {
		w.streams.retire(stream)
		if time.Since(opened) > steadyAfter {
			w.rebuilds.Reset()
		}
	}()

	answers, err := w.open(ctx, cancel)
	if err != nil {
		return err
	}
	w.machine.watching(time.Now())
	probe := time.NewTimer(probeAfter)
	defer probe.Stop()
	flush := time.NewTimer(0)
	flush.Stop()
	defer flush.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case resp, ok := <-answers:
			if !ok {
				return w.watchError(errClosed)
			}
			changed, err := w.machine.heard(&resp, time.Now())
			if err != nil {
				return w.watchError(err)
			}
			w.recovered()
			if changed {
				w.publishSoon(flush)
			}
			if w.machine.moved {
				if err := w.verify(ctx, flush); err != nil {
					return err
				}
			}
		case <-flush.C:
			w.publish(nil)
		case <-w.check:
			if err := w.verify(ctx, flush); err != nil {
				return err
			}
			w.machine.doubt(time.Now())
			probe.Reset(0)
		case <-probe.C:
			next, err := w.probe(ctx)
			if err != nil {
				return w.watchError(err)
			}
			probe.Reset(next)
		}
	}
}

// open starts the watch. The call blocks until etcd has answered, so it is bounded.
func (w *watcher[T]) open(ctx context.Context, cancel context.CancelFunc) (clientv3.WatchChan, error) {
	overdue := time.AfterFunc(watchBound, cancel)
	answers := w.cfg.Client.Watch(ctx, w.rng.From,
		w.rng.opts(clientv3.WithRev(w.machine.revision+1), clientv3.WithCreatedNotify())...)
	if !overdue.Stop() {
		return nil, w.watchError(fmt.Errorf("etcd did not open it within %v", watchBound))
	}
	return answers, nil
}

// verify compares what is known with etcd, beside the watch.
func (w *watcher[T]) verify(ctx context.Context, flush *time.Timer) error {
	resp, err := w.get(ctx, firstListBound)
	if err != nil {
		return err
	}
	changed, err := w.machine.verified(resp)
	if err != nil {
		return w.watchError(err)
	}
	if changed {
		w.publishSoon(flush)
	}
	return nil
}

// probe makes sure that the watch is alive, if it is time to, and returns when to do so again.
func (w *watcher[T]) probe(ctx context.Context) (time.Duration, error) {
	in, look, err := w.machine.due(time.Now())
	switch {
	case err != nil || in > 0:
		return in, err
	case look:
		return probeBound, w.look(ctx)
	}
	w.ask(ctx)
	return probeBound, nil
}

// look compares the range with what is known of it.
func (w *watcher[T]) look(ctx context.Context) error {
	resp, err := w.get(ctx, provisionalListBound, clientv3.WithLimit(1), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))
	if err != nil {
		return err
	}
	return w.machine.looked(resp, time.Now())
}

// ask asks for a sign of life. Whether that could be asked is of no matter: what counts is the
// answer, which comes on the watch, or does not.
func (w *watcher[T]) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeBound)
	defer cancel()
	_ = w.cfg.Client.RequestProgress(ctx)
}

func (w *watcher[T]) watchError(err error) error {
	return fmt.Errorf("etcd: watch %q: %w", w.name, explain(err))
}

// publishSoon publishes now, or when the pause since the last time is over.
func (w *watcher[T]) publishSoon(flush *time.Timer) {
	w.unpublished = true
	if wait := time.Until(w.nextPublish); wait > 0 {
		flush.Reset(wait)
		return
	}
	w.publish(nil)
}

// publish tells the users what is known now.
func (w *watcher[T]) publish(err error) {
	snapshot := w.machine.snapshot()
	w.unpublished = false
	w.deliver(Update[T]{Snapshot: snapshot, Err: err})
	if snapshot != nil {
		gap := publishGap + time.Duration(len(snapshot.Items))*publishGapPerItem
		w.nextPublish = time.Now().Add(min(gap, maxPublishGap))
	}
}

func (w *watcher[T]) deliver(u Update[T]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = u
	for user := range w.users {
		(*user)(u)
	}
}

// fail notes why the range is not followed. Users are told when that is news to them: while the
// watch is merely rebuilt, what they have is current as far as anyone knows.
func (w *watcher[T]) fail(err error, listed bool) {
	if listed && w.cfg.Hooks.Relisted != nil {
		w.cfg.Hooks.Relisted(cause(err))
	}
	if w.trouble == nil {
		w.cfg.Logger.Warn("etcd watch interrupted; listing again", "key", w.name, "error", err)
	}
	w.trouble = err
	if !listed {
		w.unpublished = false
		w.deliver(Update[T]{Snapshot: w.machine.snapshot(), Err: err})
	}
}

// recovered notes that the watch answers.
func (w *watcher[T]) recovered() {
	if w.trouble != nil {
		w.cfg.Logger.Info("etcd watch restored", "key", w.name, "revision", w.machine.revision)
		w.trouble = nil
	}
	if w.last.Err != nil {
		w.publish(nil)
	}
}

func (w *watcher[T]) reportMalformed(key string, err error) {
	w.cfg.Logger.Warn("malformed value in etcd skipped", "key", key, "error", err)
	if w.cfg.Hooks.Malformed != nil {
		w.cfg.Hooks.Malformed(key)
	}
}

// add tells user all news from now on, beginning with what is known.
func (w *watcher[T]) add(user *func(Update[T])) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users[user] = struct{}{}
	if w.last.Snapshot != nil || w.last.Err != nil {
		(*user)(w.last)
	}
}

func (w *watcher[T]) remove(user *func(Update[T])) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.users, user)
}

func (w *watcher[T]) lastSnapshot() *Snapshot[T] {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last.Snapshot
}

// explain adds the cure where etcd's own text does not name one.
func explain(err error) error {
	if etcderr.Code(err) == codes.PermissionDenied {
		return fmt.Errorf("%w (the etcd user's role lacks READ permission for this range)", err)
	}
	return err
}

// cause names an error for metrics, in a handful of distinct words.
func cause(err error) string {
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return "compacted"
	case errors.Is(err, errReplaced), errors.Is(err, errCluster):
		return "replaced"
	case errors.Is(err, errMissed):
		return "missed"
	case errors.Is(err, errSilent):
		return "silent"
	case errors.Is(err, errClosed):
		return "closed"
	case errors.Is(err, rpctypes.ErrNoLeader):
		return "no_leader"
	case etcderr.Refused(etcderr.Code(err)):
		return "denied"
	}
	return "watch_error"
}

// streams numbers the gRPC streams that the watches of a registry share. A stream authenticates
// once, so what is wrong with it — an expired token above all — stays wrong: after any failure new
// watches open on the next one.
type streams struct {
	mu sync.Mutex
	n  uint64
}

func (s *streams) current() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.FormatUint(s.n, 10)
}

// retire has later watches use another stream than the given one.
func (s *streams) retire(stream string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strconv.FormatUint(s.n, 10) == stream {
		s.n++
	}
}
