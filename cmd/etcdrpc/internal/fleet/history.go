package fleet

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// maxHistory bounds the changes that are shown of a service's past.
const maxHistory = 500

// errTroubled is in place of what etcd is not asked for.
var errTroubled = errors.New("etcd is asked for nothing more until what is told above has passed")

// History is part of console.Backend.
func (f *Fleet) History(ctx context.Context, key string) (*console.History, error) {
	if f.troubled() {
		return &console.History{Partial: errTroubled.Error()}, nil
	}
	h := &console.History{}
	config := store.ConfigOf(key)
	if s := f.look().services[key]; s != nil {
		config = store.KeyOnly(s.ConfigKey())
	}
	for _, part := range []store.KeyRange{store.EntriesOf(survey.AnyLayout, key), config} {
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
	from, err := f.store.Past(ctx, r, func(c store.Change) {
		if concerned(c, key) && len(c.Key) <= maxChanged {
			h.Changes = append(h.Changes, changeOf(c, f.store.Full))
		}
		if len(h.Changes) >= 4*maxHistory {
			h.Changes, h.Partial = slices.Clone(h.Changes[len(h.Changes)-2*maxHistory:]), "There is more; these are the latest."
		}
	})
	switch {
	case errors.Is(err, store.ErrDenied):
		h.Partial = err.Error()
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		h.Partial = "etcd took too long to replay all of it."
		return nil
	}
	h.From = max(h.From, from)
	return err
}

// concerned reports whether a change was one of a service, or of its live config. Where etcd has forgotten what a deleted key
// had, its form tells.
func concerned(c store.Change, key string) bool {
	return serviceOf(c.Entry) == key || c.Deleted && c.Value == nil && survey.HasLeaseSuffix(key, c.Key)
}
