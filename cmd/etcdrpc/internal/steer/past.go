package steer

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// Past is one change of a live policy.
type Past struct {
	Revision int64
	Removed  bool
	Text     string // what it came to be
	Size     int    // in bytes, where Text is the head of one that no client reads; 0: it is whole
	Reason   string // why, as far as that was said
}

// maxPast bounds the live policies that are remembered of a service, in bytes.
const maxPast = 16 << 20

// History returns what became of the live policy of a service, the oldest first, and from which revision on etcd has it, or
// that is looked at: of very large ones the last are.
func History(ctx context.Context, s *store.Store, key string) (all []Past, from int64, err error) {
	config, reasons := store.ConfigOf(key), make(map[int64]string)
	_, err = s.Past(ctx, store.KeyOnly(survey.ReasonKey(config.From)), func(c store.Change) {
		if !c.Deleted {
			reasons[c.Revision] = survey.ReasonOf(c.Value)
		}
	})
	if err != nil && !errors.Is(err, store.ErrDenied) {
		return nil, 0, err
	}
	var last recent
	from, err = s.Past(ctx, config, func(c store.Change) {
		p := Past{Revision: c.Revision, Removed: c.Deleted, Reason: reasons[c.Revision]}
		if !c.Deleted {
			p.Text, p.Size = string(c.Value), c.Size
		}
		last.add(p)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("etcd took too long to replay all of it: %w", err)
	}
	return last.all, max(from, last.from), err
}

// recent remembers the last policies, of maxPast at the most.
type recent struct {
	all  []Past
	size int
	from int64 // the revision of the first, if others were before; 0: none were
}

func (r *recent) add(p Past) {
	r.all, r.size = append(r.all, p), r.size+len(p.Text)
	for ; r.size > maxPast; r.from = r.all[0].Revision {
		r.size -= len(r.all[0].Text)
		r.all = r.all[1:]
	}
}

// before returns the live policy that was there before the last change, "" for none.
func (e *Edit) before(ctx context.Context, s *store.Store) (string, error) {
	if err := e.CheckOver(); err != nil { // another change would be undone than was meant
		return "", err
	}
	if config := e.Service.Config; config != nil {
		past, err := s.GetAt(ctx, config.Key, config.ModRevision-1)
		switch {
		case errors.Is(err, rpctypes.ErrCompacted):
			return "", fmt.Errorf("etcd has compacted what was there before revision %d", config.ModRevision)
		case err != nil || past == nil:
			return "", err
		}
		return string(past.Value), liveconfig.Check(string(past.Value)) // an empty one is none that could be put back
	}
	all, from, err := History(ctx, s, e.Key)
	if err != nil {
		return "", err
	}
	if n := len(all); n > 1 { // the last change is the removal
		p := all[n-2]
		if p.Size > 0 {
			return "", fmt.Errorf("what was there before has %d bytes, more than clients read: policy get --revision %d shows it", p.Size, p.Revision)
		}
		return p.Text, liveconfig.Check(p.Text)
	}
	if err := CheckPlace(e.Service); err != nil {
		return "", err
	}
	return "", fmt.Errorf("%s, and among its changes from revision %d on etcd knows of none before", string(ErrNoPolicy), from)
}
