package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

type silent struct{}

func (silent) Get(ctx context.Context, _ string, _ ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (silent) Watch(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan { return nil }
func (silent) RequestProgress(context.Context) error                                  { return nil }

// TestK1_AKeyIsNotForgottenBeforeItIsRead has another key asked for between Keys.Key and Key.Read of
// one reader, in a process that knows many: two readers of one key must not have two states of it.
func TestK1_AKeyIsNotForgottenBeforeItIsRead(t *testing.T) {
	ks := NewKeys(Config{Client: silent{}, Streams: listwatch.NewStreams(), Logger: slog.New(slog.DiscardHandler), Endpoints: func() []string { return nil }})
	defer ks.Close()
	for i := range maxKeys {
		defer ks.Key(fmt.Sprint("many/", i), endpoint.Reader{}).Read(func() {})()
	}
	one := ks.Key("acme/user", endpoint.Reader{})
	defer ks.Key("acme/other", endpoint.Reader{}).Read(func() {})() // by somebody else, just now
	defer one.Read(func() {})()
	if two := ks.Key("acme/user", endpoint.Reader{}); one != two {
		t.Error("the second reader of the key has a state of its own")
	}
}

type history struct {
	t     *testing.T
	core  *core
	items map[string]*item
	now   time.Time
	rev   int64
}

func newHistory(t *testing.T) *history {
	h := &history{t, newCore(30*time.Second, false, nil), map[string]*item{}, time.Now(), 0}
	h.core.joined()
	h.core.configured(listwatch.Update[liveConfig]{Snapshot: &listwatch.Snapshot[liveConfig]{}}, h.now)
	return h
}

// put and del change entries, which reach the core as one update after tell.
func (h *history) put(key string, l endpoint.Layout, e endpoint.Endpoint) {
	h.rev++
	created := h.rev
	if old := h.items[key]; old != nil {
		created = old.CreateRevision
	}
	h.items[key] = &item{Key: key, Value: newBackend(e, l), CreateRevision: created, ModRevision: h.rev}
}

func (h *history) tell(removed ...string) string {
	s := &listwatch.Snapshot[*Backend]{Cluster: 1}
	for _, key := range removed {
		s.Removed = append(s.Removed, h.items[key])
		delete(h.items, key)
	}
	for _, key := range slices.Sorted(maps.Keys(h.items)) {
		s.Items = append(s.Items, h.items[key])
	}
	h.now = h.now.Add(100 * time.Millisecond)
	h.core.listed(listwatch.Update[*Backend]{Snapshot: s}, h.now)
	text := ""
	for _, b := range h.core.state.Backends {
		text += b.Endpoint.Instance + "@" + b.Endpoint.Addr
		if _, held := h.core.state.Held[b.Endpoint.Addr]; held {
			text += " held"
		}
		text += "; "
	}
	return text
}

func at(instance, addr string) endpoint.Endpoint {
	return endpoint.Endpoint{Instance: instance, Addr: addr}
}

// TestK3_AMarkBesideALayoutWithout has the sole instance leave in order that is written in two layouts,
// of which one cannot carry the mark, and whose deletions come one after the other.
func TestK3_AMarkBesideALayoutWithout(t *testing.T) {
	h := newHistory(t)
	h.put("k/a", endpoint.EndpointJSON, at("a", "1:1"))
	h.put("k/1:1", endpoint.Plain, at("1:1", "1:1"))
	h.tell()
	h.put("k/a", endpoint.EndpointJSON, at("a", "1:1").WithLeaving())
	if got := h.tell(); got != "" {
		t.Errorf("marked: %q", got)
	}
	if got := h.tell("k/a"); got != "" {
		t.Errorf("the marked entry is deleted: %q is back", got)
	}
	if got := h.tell("k/1:1"); got != "" {
		t.Errorf("all is deleted: %q", got)
	}
}

// TestK3_ANewInstanceBesideAMarkedEntry has another process register at the address of one that is
// leaving, whose marked entry is still there.
func TestK3_ANewInstanceBesideAMarkedEntry(t *testing.T) {
	for _, layout := range []endpoint.Layout{endpoint.EndpointJSON, endpoint.Plain} {
		h := newHistory(t)
		h.put("k/a", endpoint.EndpointJSON, at("a", "1:1"))
		h.tell()
		h.put("k/a", endpoint.EndpointJSON, at("a", "1:1").WithLeaving())
		h.tell()
		h.put("k/b", layout, at("b", "1:1"))
		if got := h.tell(); got != "b@1:1; " {
			t.Errorf("%s: beside the marked entry: %q", layout, got)
		}
		if got := h.tell("k/a"); got != "b@1:1; " {
			t.Errorf("%s: after its deletion: %q", layout, got)
		}
		if got := h.tell("k/b"); got != "b@1:1 held; " {
			t.Errorf("%s: the new one is lost: %q", layout, got)
		}
	}
}

// TestK3_AnEntryThatIsMarkedTwice is put anew after its mark and marked again, and all of it comes as one update.
func TestK3_AnEntryThatIsMarkedTwice(t *testing.T) {
	h := newHistory(t)
	h.put("k/a", endpoint.EndpointJSON, at("a", "1:1"))
	h.put("k/b", endpoint.EndpointJSON, at("b", "2:1"))
	h.tell()
	h.put("k/a", endpoint.EndpointJSON, at("a", "1:1").WithLeaving())
	h.tell()
	delete(h.items, "k/a")
	h.put("k/a", endpoint.EndpointJSON, at("a", "1:1"))
	h.put("k/a", endpoint.EndpointJSON, at("a", "1:1").WithLeaving())
	if got := h.tell(); got != "b@2:1; " {
		t.Errorf("marked again: %q", got)
	}
}

// TestHoldAcrossLeaves mixes leaves and losses in one update.
func TestHoldAcrossLeaves(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c", "d"} {
		h.put("k/"+n, endpoint.EndpointJSON, at(n, n+":1"))
	}
	h.tell()
	h.put("k/a", endpoint.EndpointJSON, at("a", "a:1").WithLeaving())
	h.put("k/b", endpoint.EndpointJSON, at("b", "b:1").WithLeaving())
	if got := h.tell("k/a", "k/b", "k/c", "k/d"); got != "c@c:1 held; d@d:1 held; " {
		t.Errorf("%q", got)
	}
	h.put("k/a", endpoint.EndpointJSON, at("a", "x:1"))
	if got := h.tell(); got != "a@x:1; c@c:1 held; d@d:1 held; " {
		t.Errorf("%q", got)
	}
	h.put("k/c", endpoint.EndpointJSON, at("c", "y:1"))
	if got := h.tell(); got != "a@x:1; c@y:1; d@d:1 held; " {
		t.Errorf("%q", got)
	}
}
