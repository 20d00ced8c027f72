package fleet

import (
	"context"
	"errors"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

const (
	maxHistory  = 500             // changes that are shown of a service's past
	historyTime = 3 * time.Second // for reading it
	askAgain    = 50 * time.Millisecond
)

// errTroubled is in place of what etcd is not asked for.
var errTroubled = errors.New("etcd is asked for nothing more until what is told above has passed")

// errRead ends the reading of a history that has been read.
var errRead = errors.New("read to the end")

// History is part of console.Backend. etcd has no list of what has happened, but replays it to a watch.
func (f *Fleet) History(ctx context.Context, key string) (*console.History, error) {
	if f.troubled() {
		return &console.History{Partial: errTroubled.Error()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, historyTime)
	defer cancel()
	h := &console.History{}
	for _, part := range []store.KeyRange{store.EntriesOf(survey.AnyLayout, key), store.ConfigOf(key)} {
		if err := f.replay(ctx, h, key, part); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(h.Changes, func(a, b console.Change) int { return int(b.Revision - a.Revision) })
	if len(h.Changes) > maxHistory {
		h.Changes, h.Partial = h.Changes[:maxHistory], "There is more; these are the latest."
	}
	times := make(map[int64]time.Time)
	for _, c := range f.changesAt(key) {
		times[c.Revision] = c.Time
	}
	for n := range h.Changes {
		h.Changes[n].Time = times[h.Changes[n].Revision]
	}
	return h, nil
}

// replay adds what has happened in a range, as far as etcd has not forgotten it.
func (f *Fleet) replay(ctx context.Context, h *console.History, key string, r store.KeyRange) error {
	for from := max(1, h.From); ; {
		err := f.replayFrom(ctx, h, key, r, from)
		var compacted store.CompactedError
		switch {
		case errors.As(err, &compacted) && int64(compacted) > from:
			from = int64(compacted)
			continue
		case errors.Is(err, errRead):
			h.From = from
			return nil
		case errors.Is(err, store.ErrDenied):
			h.Partial = err.Error()
			return nil
		case ctx.Err() != nil:
			h.Partial = "etcd took too long to replay all of it."
			return nil
		}
		return err
	}
}

// replayFrom watches a range from a revision on until what has happened is read, which etcd says when it is asked. It
// says nothing while a watch on the same stream waits for a revision to come, as that of the fleet may: so this one is on
// the stream of those that do not require a leader.
func (f *Fleet) replayFrom(ctx context.Context, h *console.History, key string, r store.KeyRange, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for ctx.Err() == nil {
			if f.store.AskProgress(ctx) != nil {
				return
			}
			store.Pause(ctx, askAgain)
		}
	}()
	err := f.store.Replay(ctx, r, from-1, func(resp clientv3.WatchResponse) error {
		if resp.IsProgressNotify() {
			return errRead
		}
		for _, event := range resp.Events {
			if e, ok := pastOf(event, key); ok {
				h.Changes = append(h.Changes, changeOf(event, e, f.store.Full))
			}
		}
		if len(h.Changes) >= 4*maxHistory {
			h.Changes, h.Partial = slices.Clone(h.Changes[len(h.Changes)-2*maxHistory:]), "There is more; these are the latest."
		}
		return nil
	}, clientv3.WithPrevKV())
	cancel()
	<-asked
	return err
}

// pastOf returns the entry that came or went with an event, and whether it was one of a service, or its live config. Where
// etcd has forgotten what a deleted key had, its form tells.
func pastOf(event *clientv3.Event, key string) (e survey.Entry, ok bool) {
	e = store.EntryOf(event.Kv)
	if event.Type == clientv3.EventTypeDelete {
		if event.PrevKv == nil {
			return e, survey.HasLeaseSuffix(key, e.Key) || serviceOf(e) == key
		}
		went := e.ModRevision
		e = store.EntryOf(event.PrevKv)
		e.ModRevision = went
	}
	return e, serviceOf(e) == key
}
