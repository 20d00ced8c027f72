package etcd

import (
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	maxQueued = 128  // answers that wait for a slow client before its watches fall behind
	maxBatch  = 1000 // revisions in one answer
)

// watcher is one watch of a stream.
type watcher struct {
	id        int64
	keys      span
	start     int64 // revision asked for; 0 for now
	next      int64 // the first revision not sent yet
	synced    bool  // gets what happens as it happens
	compacted bool  // ended, for its revision is compacted; it stays until it is cancelled
}

// watchStream is the watches of one stream, and what is to be sent to it.
type watchStream struct {
	watchers []*watcher
	nextID   int64
	queue    []*pb.WatchResponse
}

func (ws *watchStream) send(r *pb.WatchResponse, rev int64) {
	r.Header = &pb.ResponseHeader{Revision: rev}
	ws.queue = append(ws.queue, r)
}

// create adds a watch, unless may refuses its keys.
func (ws *watchStream) create(v view, r *pb.WatchCreateRequest, may func(span) error) {
	keys := spanOf(r.Key, r.RangeEnd)
	if keys.from == "" {
		keys.from = "\x00"
	}
	if reason := ws.refusal(r, keys, may); reason != "" {
		ws.send(&pb.WatchResponse{WatchId: -1, Created: true, Canceled: true, CancelReason: reason}, v.rev)
		return
	}
	w := &watcher{id: ws.nextID, keys: keys, start: r.StartRevision, next: r.StartRevision}
	ws.nextID++
	if w.synced = w.start == 0 || w.start > v.rev; w.synced {
		w.next = max(w.start, v.rev+1)
	}
	ws.watchers = append(ws.watchers, w)
	ws.send(&pb.WatchResponse{WatchId: w.id, Created: true}, v.rev)
}

// refusal returns why a watch is refused, "" if it is not.
func (*watchStream) refusal(r *pb.WatchCreateRequest, keys span, may func(span) error) string {
	if r.StartRevision < 0 {
		return rpctypes.ErrCompacted.Error()
	}
	if err := may(keys); err != nil {
		return err.Error()
	}
	if keys.to != "" && keys.to != "\x00" && keys.from >= keys.to {
		return "mvcc: watcher range is empty"
	}
	return ""
}

// cancel removes a watch; one that is not there is not answered.
func (ws *watchStream) cancel(v view, id int64) {
	if i := slices.IndexFunc(ws.watchers, func(w *watcher) bool { return w.id == id }); i >= 0 {
		ws.watchers = slices.Delete(ws.watchers, i, i+1)
		ws.send(&pb.WatchResponse{WatchId: id, Canceled: true}, v.rev)
	}
}

// progressAll answers a request for progress, if all watches have heard all there is.
func (ws *watchStream) progressAll(v view) {
	for _, w := range ws.watchers {
		if !w.synced || v.rev < w.start {
			return
		}
	}
	if len(ws.watchers) > 0 {
		ws.send(&pb.WatchResponse{WatchId: -1}, v.rev)
	}
}

// notify queues the changes of the revision that v has just reached.
func (ws *watchStream) notify(v view, events []*mvccpb.Event) {
	for _, w := range ws.watchers {
		if !w.synced || v.rev < w.next || !slices.ContainsFunc(events, w.matches) {
			continue
		}
		if len(ws.queue) >= maxQueued {
			w.synced, w.next = false, v.rev
			continue
		}
		w.next = v.rev + 1
		ws.deliver(v, w, events)
	}
}

// behind reports whether a watch has yet to hear of the past, and the stream has room for it.
func (ws *watchStream) behind() bool {
	waits := func(w *watcher) bool { return !w.synced && !w.compacted }
	return len(ws.queue) < maxQueued && slices.ContainsFunc(ws.watchers, waits)
}

// sync queues the past for the watches that have yet to hear of it.
func (ws *watchStream) sync(v view) {
	for _, w := range ws.watchers {
		switch {
		case w.synced || w.compacted:
		case w.next < v.compacted:
			w.compacted = true
			ws.send(&pb.WatchResponse{WatchId: w.id, Canceled: true, CompactRevision: v.compacted}, 0)
		default:
			ws.catchUp(v, w)
		}
	}
}

// catchUp queues the past for w, which from then on hears of things as they happen.
func (ws *watchStream) catchUp(v view, w *watcher) {
	var past []*mvccpb.Event
	for _, e := range v.since(w.next, v.rev) {
		if w.matches(e) {
			past = append(past, e)
		}
	}
	for _, batch := range batches(past) {
		ws.deliver(v, w, batch)
	}
	w.synced, w.next = true, max(w.next, v.rev+1)
}

// batches cuts events into lists of at most maxBatch revisions.
func batches(events []*mvccpb.Event) [][]*mvccpb.Event {
	var out [][]*mvccpb.Event
	begin, revs := 0, 0
	for i, e := range events {
		if i == 0 || e.Kv.ModRevision != events[i-1].Kv.ModRevision {
			revs++
		}
		if revs > maxBatch {
			out, begin, revs = append(out, events[begin:i]), i, 1
		}
	}
	return append(out, events[begin:])
}

// matches reports whether w is about the key of e.
func (w *watcher) matches(e *mvccpb.Event) bool { return w.keys.contains(string(e.Kv.Key)) }

// deliver queues the events that w asked for.
func (ws *watchStream) deliver(v view, w *watcher, events []*mvccpb.Event) {
	var out []*mvccpb.Event
	for _, e := range events {
		if w.matches(e) {
			out = append(out, e)
		}
	}
	if len(out) > 0 {
		ws.send(&pb.WatchResponse{WatchId: w.id, Events: out}, v.rev)
	}
}
