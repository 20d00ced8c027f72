package targets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// relist spaces the lists that notice what no watch tells: an etcd that was restored from a backup.
const relist = time.Minute

// Follower keeps the targets of the services under a prefix, as etcd has them. It answers Prometheus.
type Follower struct {
	http.Handler
	parts []part
}

// NewFollower returns a follower that asks nothing of etcd until it runs. What goes wrong is written to notes.
func NewFollower(s *store.Store, prefix string, port Port, notes io.Writer) *Follower {
	ranges := []store.KeyRange{store.PrefixRange(prefix)}
	if prefix != "" {
		ranges = append(ranges, store.ConfigsUnder(prefix))
	}
	c := newCatalog(len(ranges), port)
	f := &Follower{Handler: handler(c)}
	for number, keys := range ranges {
		f.parts = append(f.parts, part{store: s, catalog: c, number: number, keys: keys, notes: notes})
	}
	return f
}

// Run follows etcd until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for n := range f.parts {
		running.Go(func() { f.parts[n].run(ctx) })
	}
}

// part keeps a part of a catalog as etcd has it.
type part struct {
	store   *store.Store
	catalog *catalog
	number  int
	keys    store.KeyRange
	notes   io.Writer
	said    string // what was written last, "" since it went well
}

// run ends with ctx. While etcd fails, the catalog stays as it was.
func (p *part) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := p.follow(ctx)
		if err == nil || ctx.Err() != nil {
			continue // it is time to list again, or to end
		}
		p.say(fmt.Sprintf("etcdrpc: %s; trying again", err))
		store.Pause(ctx, store.RetryAfter)
	}
}

// say writes what goes wrong, once until it is something else.
func (p *part) say(text string) {
	if p.said != text {
		p.said = text
		output.Sayf(p.notes, "%s\n", text)
	}
}

// follow lists and then watches, and returns nil when it is time to list again.
func (p *part) follow(ctx context.Context) error {
	entries, revision, err := p.store.Scan(ctx, p.keys)
	if errors.Is(err, store.ErrDenied) && p.isConfigs() {
		return p.readConfigs(ctx)
	}
	if errors.Is(err, store.ErrDenied) {
		return fmt.Errorf("%w: give a PREFIX that it may read", err)
	}
	if err != nil {
		return err
	}
	p.said = ""
	p.catalog.replace(p.number, entries)
	watching, cancel := context.WithTimeout(ctx, relist)
	defer cancel()
	err = p.store.FollowEvents(watching, p.keys, revision, func(events []*clientv3.Event) { p.catalog.apply(p.number, events) })
	if watching.Err() != nil {
		return nil
	}
	return err
}

// readConfigs reads the live configs that the user may read, where these are not all. Who may not see any still sees the
// instances. It returns when it is time to look again.
func (p *part) readConfigs(ctx context.Context) error {
	entries, parts, err := p.store.ScanReadable(ctx, p.keys)
	switch {
	case errors.Is(err, store.ErrDenied):
		p.say(p.store.NoConfigs(p.keys, store.DrainUnseen))
	case err != nil:
		return err
	case parts != nil:
		p.say(store.PartOnly(p.store.User, parts))
	}
	p.catalog.replace(p.number, entries)
	store.Pause(ctx, relist)
	return nil
}

// isConfigs reports whether the keys are those of live configs.
func (p *part) isConfigs() bool {
	return strings.HasPrefix(p.keys.From, endpoint.ReservedSegment+"/")
}
