// Package discovery follows the endpoints and the live service config of
// service keys, and passes them to gRPC. Each key has one state. Its readers
// are connections, watches, calls to each instance, status, metrics and the
// disk.
//
//	core.go       the core of a key: handles events, makes the state, returns effects
//	entries.go    ... omits endpoints that are being withdrawn, and merges the entries of each address
//	hold.go       ... holds endpoints that vanished suspiciously
//	config.go     ... the live service config
//	state.go      the state, as readers see it
//	key.go        the shell of the core: locks, timers, subscriptions
//	discovery.go  the keys of a registry, and where they are in etcd
//	disk.go       the last known endpoints and live config of each key, in files
//	conn.go       the resolver of one gRPC connection, and the service config that it gives to gRPC
//	bare.go       ... the endpoints that it gives to policies of other packages
//
// The files down to state.go do no I/O, hold no lock and read no clock.
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
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// maxKeys is the number of keys above which Keys drops keys that are not
// followed.
const maxKeys = 1000

// aboutToRead is the minimum time that a key is kept after Keys.Key has
// returned it.
const aboutToRead = time.Second

// Config is the shared configuration of a registry's keys.
type Config struct {
	Conversation *listwatch.Conversation // that of the etcd client
	Namespace    string

	// how long endpoints that vanished suspiciously are held; 0 for not at all
	EmptyGrace time.Duration

	SnapshotDir string // "" to keep nothing on disk

	// refuse live service configs with more than load balancing
	LoadBalancingOnly bool

	Bounds  listwatch.Bounds
	Allowed func(addr string) error // returns why an address may not be dialed
	Logger  *slog.Logger

	// The hooks count events. They must not block.
	EndpointHooks, ConfigHooks, RangeHooks listwatch.Hooks
}

const (
	// backendSize is roughly the memory of a backend in bytes. It includes the
	// backend's elements in the slices of its key, but no strings.
	backendSize = 600

	// metadataSize is roughly the memory of a piece of metadata in bytes,
	// without its strings.
	metadataSize = 64
)

// sizeOf returns roughly how many bytes of memory b takes.
func sizeOf(b *Backend) int {
	e := &b.Endpoint
	n := backendSize + len(e.Instance) + len(e.Addr) + len(e.Version) + len(e.Zone)
	for name, value := range e.Metadata {
		n += metadataSize + len(name) + len(value)
	}

	return n
}

// Keys holds the service keys that a registry reads, one Key for each, shared
// by all readers. It is safe for concurrent use.
type Keys struct {
	// Ranges follows further ranges. It keeps as many bytes of a range as the
	// bounds allow, and any number of entries.
	Ranges *listwatch.Group[string]

	cfg       Config
	endpoints *listwatch.Group[*Backend]
	configs   *listwatch.Group[liveConfig]
	disk      *disk
	closed    atomic.Bool

	mu   sync.Mutex
	keys map[place]*Key
}

// NewKeys returns an empty Keys. It does no I/O.
func NewKeys(cfg Config) *Keys {
	return &Keys{
		cfg: cfg,
		endpoints: listwatch.NewGroup(listwatch.Config[*Backend]{
			Conversation:    cfg.Conversation,
			Equal:           (*Backend).Equal,
			Size:            sizeOf,
			Bounds:          cfg.Bounds,
			Logger:          cfg.Logger,
			Hooks:           cfg.EndpointHooks,
			MaxRefusedPause: 5 * time.Second,
		}),
		configs: listwatch.NewGroup(listwatch.Config[liveConfig]{
			Conversation: cfg.Conversation, Logger: cfg.Logger, Hooks: cfg.ConfigHooks,
			MaxRefusedPause: 5 * time.Minute, // many roles have no right to live configs
		}),
		Ranges: listwatch.NewGroup(listwatch.Config[string]{
			Conversation:    cfg.Conversation,
			Size:            func(s string) int { return len(s) },
			Bounds:          listwatch.Bounds{Bytes: cfg.Bounds.Bytes},
			Logger:          cfg.Logger,
			Hooks:           cfg.RangeHooks,
			MaxRefusedPause: 5 * time.Second,
		}),
		disk: newDisk(cfg),
		keys: make(map[place]*Key),
	}
}

// Key returns a service's key, which is not followed before its Read is called.
// r decides which entries the key includes. Keys with different values of r
// share nothing.
func (ks *Keys) Key(name string, r endpoint.Reader) *Key {
	from, end := r.Range(ks.Full(name))
	at := place{listwatch.Range{From: from, End: end}, r}
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

// forget drops the keys that are not followed once there are maxKeys keys. It
// keeps keys that a caller may be about to read: all readers of a key must
// share one state. It must be called with mu held.
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

// Services are the services under a prefix.
type Services struct {
	Changed <-chan struct{} // has a value after one or several changes
	Stop    func()          // stops following

	keys   *Keys
	prefix string

	mu   sync.Mutex
	last listwatch.Update[string] // its items are valid until the next update
}

// Services follows the entries under a prefix until Stop is called.
func (ks *Keys) Services(prefix string) *Services {
	changed := make(chan struct{}, 1)
	s := &Services{Changed: changed, keys: ks, prefix: ks.Full(prefix)}

	decode := func(entry *mvccpb.KeyValue) (string, bool, error) {
		service := ks.serviceOf(string(entry.Key))
		b, _, _ := ks.decode(service, endpoint.Reader{}, entry)

		// the entry is kept, without its value, if clients use it
		return "", b != nil && endpoint.CheckKey(service) == nil, nil
	}

	sink := func(u listwatch.Update[string]) {
		s.mu.Lock()
		s.last = u
		s.mu.Unlock()

		listwatch.Signal(changed)
	}
	s.Stop = ks.Ranges.Follow(listwatch.Prefix(s.prefix), decode, sink)

	return s
}

// List returns the sorted service keys of the entries, and the current error.
// known is false until etcd has been listed.
func (s *Services) List() (known bool, keys []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.last.Snapshot == nil {
		return false, nil, s.last.Err
	}

	for _, item := range s.last.Snapshot.Items {
		key := s.keys.serviceOf(item.Key)
		if len(keys) == 0 || keys[len(keys)-1] != key {
			keys = append(keys, key)
		}
	}

	slices.Sort(keys)

	err = s.last.Err
	if err == nil && s.last.Snapshot.Truncated {
		err = fmt.Errorf("services under %q: the entries exceed WithLimits' Bytes, so the last services are missing: raise Bytes, or use a longer prefix",
			s.prefix)
	}

	return true, slices.Compact(keys), err
}

// serviceOf returns the service key of an entry's etcd key: the part between
// the namespace and the last slash.
func (ks *Keys) serviceOf(key string) string {
	key = strings.TrimPrefix(key, ks.cfg.Namespace)
	return key[:max(strings.LastIndexByte(key, '/'), 0)]
}

// Full returns a key with the namespace, as in etcd.
func (ks *Keys) Full(name string) string {
	return ks.cfg.Namespace + name
}

// Followed returns the keys that are followed, in no particular order.
func (ks *Keys) Followed() []*Key {
	return slices.DeleteFunc(ks.all(), func(k *Key) bool { return !k.followed() })
}

func (ks *Keys) all() []*Key {
	ks.mu.Lock()
	defer ks.mu.Unlock()

	return slices.Collect(maps.Values(ks.keys))
}

// Close stops following all keys, without waiting for etcd, and writes unsaved
// states. It waits for the file system.
func (ks *Keys) Close() {
	ks.closed.Store(true)
	ks.endpoints.Close()
	ks.configs.Close()
	ks.Ranges.Close()

	for _, k := range ks.all() {
		k.close()
	}

	ks.disk.close()
}

// place is the range of etcd that has a key's endpoints, and the reader that
// decodes them.
type place struct {
	listwatch.Range
	reader endpoint.Reader
}

// String returns a text that distinguishes the place from others, for the name
// of its file.
func (p place) String() string {
	text := p.From + " to " + p.End
	if !p.reader.JSON.IsZero() {
		text += " as " + p.reader.JSON.String()
	}

	return text
}

// ConfigKey returns the etcd key of a service key's live service config.
func ConfigKey(namespace, name string) string {
	return namespace + servicekey.Reserved + "/" + name
}

// followConfig passes the live service config of a key to sink until stop is
// called.
func (ks *Keys) followConfig(
	name string,
	sink func(listwatch.Update[liveConfig]),
) (stop func()) {
	key := ConfigKey(ks.cfg.Namespace, name)
	return ks.configs.Follow(listwatch.Range{From: key}, decodeConfig, sink)
}

// FollowPolicy passes our policy in a key's live service config to sink, nil if
// there is none, until stop is called. An invalid config changes nothing. The
// config may name policies that this process does not link: only callers need
// them.
func (ks *Keys) FollowPolicy(name string, sink func(*serviceconfig.Etcd)) (stop func()) {
	return ks.followConfig(name, func(u listwatch.Update[liveConfig]) {
		if u.Snapshot == nil {
			return
		}

		var policy *serviceconfig.Etcd

		if len(u.Snapshot.Items) > 0 {
			config, err := ks.cfg.parse(u.Snapshot.Items[0].Value,
				serviceconfig.ParseLive)
			if err != nil {
				return
			}

			policy = config.Etcd()
		}

		sink(policy)
	})
}

// decodeConfig accepts any value. If it returned an error, package listwatch
// would skip the value, and an invalid config would look like a deletion. The
// core parses the value later.
func decodeConfig(entry *mvccpb.KeyValue) (liveConfig, bool, error) {
	value := entry.Value
	return liveConfig{string(value[:min(len(value), serviceconfig.MaxSize)]),
		len(value)}, true, nil
}

// decode returns the backend of an entry of a service, and false if the reader
// skips the entry.
func (ks *Keys) decode(
	name string,
	reader endpoint.Reader,
	entry *mvccpb.KeyValue,
) (*Backend, bool, error) {
	e, layout, ok, err := reader.Decode(name,
		strings.TrimPrefix(string(entry.Key), ks.cfg.Namespace), entry.Value,
		entry.Lease)
	if err == nil && ok {
		err = ks.cfg.Allowed(e.Addr)
	}

	if err != nil || !ok {
		return nil, ok, err
	}

	b := model.New(e, layout)
	b.Lease = entry.Lease
	b.Created = entry.CreateRevision

	return b, true, nil
}

// read implements configCore.read.
func (c *Config) read(
	l liveConfig,
	now time.Time,
) (json string, until time.Time, err error) {
	config, err := c.parse(l, grpccheck.Live)
	if err != nil {
		return "", until, err
	}

	until = config.Etcd().EndDrains(now)

	return config.JSON(), until, nil
}

// parse parses a live service config with parser. After an error, the config
// must not be used.
func (c *Config) parse(
	l liveConfig,
	parser func(string) (*serviceconfig.Config, error),
) (*serviceconfig.Config, error) {
	if l.size > len(l.raw) {
		return nil, fmt.Errorf("the service config has %d bytes, more than %d", l.size,
			serviceconfig.MaxSize)
	}

	config, err := parser(l.raw)
	if err == nil && c.LoadBalancingOnly {
		err = config.LoadBalancingOnly()
	}

	return config, err
}
