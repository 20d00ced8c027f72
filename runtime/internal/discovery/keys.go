package discovery

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig/grpccheck"
)

// maxKeys is how many keys are kept before those that are not followed are forgotten.
const maxKeys = 1000

// aboutToRead is the least time that a key is kept after somebody asked for it.
const aboutToRead = time.Second

// Config is what the keys of a registry have in common.
type Config struct {
	Client            listwatch.Client
	Streams           *listwatch.Streams // the client's
	Why               func(error) error  // what the error of a call to etcd does not say itself; nil: nothing
	Namespace         string
	EmptyGrace        time.Duration // how long endpoints that vanished suspiciously are kept; 0: not at all
	SnapshotDir       string        // "": nothing is kept on disk
	LoadBalancingOnly bool          // refuse live service configs that hold anything else
	Bounds            listwatch.Bounds
	Allowed           func(addr string) error // why an address may not be dialed; nil: all may
	Logger            *slog.Logger

	// Hooks count what happens. They must not block.
	EndpointHooks, ConfigHooks, ElectionHooks listwatch.Hooks
}

// Keys holds the service keys that a registry reads, one Key each, for however many readers. It is
// safe for concurrent use.
type Keys struct {
	cfg       Config
	endpoints *listwatch.Group[*Backend]
	configs   *listwatch.Group[liveConfig]
	elections *listwatch.Group[string]
	disk      *disk
	closed    atomic.Bool

	mu         sync.Mutex
	keys       map[place]*Key
	candidates map[string]*Candidates // by the service key
}

// NewKeys returns keys that follow nothing yet. It does no I/O.
func NewKeys(cfg Config) *Keys {
	if cfg.Allowed == nil {
		cfg.Allowed = func(string) error { return nil }
	}
	return &Keys{
		cfg: cfg,
		endpoints: listwatch.NewGroup(listwatch.Config[*Backend]{
			Client: cfg.Client, Streams: cfg.Streams, Equal: (*Backend).Equal, Size: (*Backend).size, Bounds: cfg.Bounds, Logger: cfg.Logger, Hooks: cfg.EndpointHooks,
			Why: cfg.Why, MaxRefusedPause: 5 * time.Second,
		}),
		configs: listwatch.NewGroup(listwatch.Config[liveConfig]{
			Client: cfg.Client, Streams: cfg.Streams, Equal: liveConfig.equal, Logger: cfg.Logger, Hooks: cfg.ConfigHooks,
			Why: cfg.Why, MaxRefusedPause: time.Minute,
		}),
		elections: listwatch.NewGroup(listwatch.Config[string]{
			Client: cfg.Client, Streams: cfg.Streams, Equal: func(a, b string) bool { return a == b },
			Bounds: listwatch.Bounds{Entries: maxCandidates}, Logger: cfg.Logger, Hooks: cfg.ElectionHooks, Why: cfg.Why, MaxRefusedPause: 5 * time.Second,
		}),
		candidates: make(map[string]*Candidates),

		disk: newDisk(cfg),
		keys: make(map[place]*Key),
	}
}

// Key returns a service's key, which is not followed before its Read is called. read decides which entries
// it includes; keys with different readers share nothing.
func (ks *Keys) Key(name string, read endpoint.Reader) *Key {
	from, end := read.Range(ks.Full(name))
	at := place{listwatch.Range{From: from, End: end}, read}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	k, ok := ks.keys[at]
	if !ok {
		ks.forget()
		k = &Key{Name: name, keys: ks, place: at, readers: make(map[*reader]struct{})}
		k.core = newCore(ks.cfg.EmptyGrace, ks.cfg.read)
		k.state.Store(k.core.state)
		ks.keys[at] = k
	}
	k.asked = time.Now()
	return k
}

// forget drops the keys that are not followed once there are many, but for those that somebody was
// just given and is about to read: a key has one state. It must be called with mu held.
func (ks *Keys) forget() {
	if len(ks.keys) < maxKeys {
		return
	}
	for at, k := range ks.keys {
		if time.Since(k.asked) > aboutToRead && !k.followed() {
			delete(ks.keys, at)
		}
	}
}

// Full returns a key as etcd has it, which begins with the namespace.
func (ks *Keys) Full(name string) string { return ks.cfg.Namespace + name }

// Followed returns the keys that are followed, in no order.
func (ks *Keys) Followed() []*Key {
	return slices.DeleteFunc(ks.all(), func(k *Key) bool { return !k.followed() })
}

func (ks *Keys) all() []*Key {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return slices.Collect(maps.Values(ks.keys))
}

// Reconnected tells that the connection to etcd is back, see [listwatch.Group.Reconnected].
func (ks *Keys) Reconnected() {
	ks.endpoints.Reconnected()
	ks.configs.Reconnected()
	ks.elections.Reconnected()
}

// Close stops following everything, without waiting for etcd, and writes what is unsaved. It waits for the
// file system.
func (ks *Keys) Close() {
	ks.closed.Store(true)
	ks.endpoints.Close()
	ks.configs.Close()
	ks.elections.Close()
	for _, k := range ks.all() {
		k.close()
	}
	ks.disk.close()
}

// place is where a key's endpoints are in etcd, and how they are read.
type place struct {
	listwatch.Range
	reader endpoint.Reader
}

// String names the place for the disk.
func (p place) String() string {
	text := p.From + " to " + p.End
	if !p.reader.JSON.IsZero() {
		text += " as " + p.reader.JSON.String()
	}
	return text
}

// ConfigKey returns the etcd key of a service key's live service config.
func ConfigKey(namespace, name string) string {
	return namespace + endpoint.ReservedSegment + "/" + name
}

// decode reads an entry of the key.
func (k *Key) decode(entry *mvccpb.KeyValue) (*Backend, bool, error) {
	cfg := &k.keys.cfg
	e, layout, ok, err := k.place.reader.Decode(k.Name, strings.TrimPrefix(string(entry.Key), cfg.Namespace), entry.Value, entry.Lease)
	if err == nil && ok {
		err = cfg.Allowed(e.Addr)
	}
	if err != nil || !ok {
		return nil, ok, err
	}
	return newBackend(e, layout), true, nil
}

// followConfig passes the live service config of a key to sink until stop is called.
func (ks *Keys) followConfig(name string, sink func(listwatch.Update[liveConfig])) (stop func()) {
	key := ConfigKey(ks.cfg.Namespace, name)
	return ks.configs.Follow(listwatch.Spec[liveConfig]{Range: listwatch.Range{From: key}, Decode: decodeConfig}, sink)
}

// decodeConfig takes any value for a live service config: the core reads it, at its own pace, and has to tell an invalid one
// from a deletion. List-watch would skip it.
func decodeConfig(entry *mvccpb.KeyValue) (liveConfig, bool, error) {
	value := entry.Value
	return liveConfig{string(value[:min(len(value), serviceconfig.MaxSize)]), len(value)}, true, nil
}

// read is parse for those who want canonical JSON.
func (c *Config) read(l liveConfig) (json string, err error) {
	config, err := c.parse(l, grpccheck.Live)
	if err != nil {
		return "", err
	}
	return config.JSON(), nil
}

// parse reads a live service config by a function. An error means that it is not to be in force.
func (c *Config) parse(l liveConfig, by func(string) (*serviceconfig.Config, error)) (*serviceconfig.Config, error) {
	if l.size > len(l.raw) {
		return nil, fmt.Errorf("the service config has %d bytes, more than %d", l.size, serviceconfig.MaxSize)
	}
	config, err := by(l.raw)
	if err == nil && c.LoadBalancingOnly {
		err = config.LoadBalancingOnly()
	}
	return config, err
}
