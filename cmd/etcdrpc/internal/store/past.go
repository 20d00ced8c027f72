package store

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

const (
	pastTime = 3 * time.Second // for reading what has happened in a range
	askAgain = 50 * time.Millisecond
)

// errRead ends the reading of a past that has been read.
var errRead = errors.New("read to the end")

// Past hands over what has happened in a range, the oldest first, as far as etcd has not compacted it, nor what a deleted key
// had. Of values that no client reads, it hands over the heads. It returns from which revision on that is. etcd has no list of
// what has happened, but replays it to a watch. The error is ErrDenied where the user may not read the range, and
// context.DeadlineExceeded where etcd took too long to replay all of it.
func (s *Store) Past(ctx context.Context, r KeyRange, told func(Change)) (from int64, err error) {
	if _, err := s.Revision(ctx, r.From); err != nil && !errors.Is(err, ErrDenied) {
		return 0, err // a watch would only be silent
	}
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	for from = 1; ; {
		err := s.past(ctx, r, from, told)
		switch compacted, ok := errors.AsType[CompactedError](err); {
		case ok && int64(compacted) > from:
			from = int64(compacted)
			continue
		case errors.Is(err, errRead):
			return from, nil
		case ctx.Err() != nil && !errors.Is(err, ErrDenied):
			return from, UnansweredError{ctx.Err()}
		}
		return from, err
	}
}

// Reason returns why a live config was changed last, as of a revision, as far as that was said, and may be read; 0: as of now.
func (s *Store) Reason(ctx context.Context, config *survey.Entry, revision int64) (string, error) {
	said, err := s.GetAt(ctx, survey.ReasonKey(config.Key), revision)
	if errors.Is(err, ErrDenied) {
		return "", nil
	}
	return config.Reason(said), err
}

// past watches a range from a revision on until what has happened is read, which etcd says when it is asked. It says
// nothing while a watch on the same stream waits for a revision to come, as that of a mirror may: so this one is on the
// stream of those that do not require a leader.
func (s *Store) past(ctx context.Context, r KeyRange, from int64, told func(Change)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for ctx.Err() == nil {
			if s.watcher.RequestProgress(ctx) != nil {
				return
			}
			Pause(ctx, askAgain)
		}
	}()
	err := s.Replay(ctx, r, from-1, func(resp clientv3.WatchResponse) error {
		if resp.IsProgressNotify() {
			return errRead
		}
		for _, event := range resp.Events {
			var was survey.Entry
			if event.PrevKv != nil {
				was = EntryOf(event.PrevKv)
			}
			c := changeOf(event, was)
			c.Entry = c.Shortened()
			told(c)
		}
		return nil
	}, clientv3.WithPrevKV())
	cancel()
	<-asked
	return err
}
