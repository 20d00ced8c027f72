package discovery

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

const (
	// the time from a change to its write: changes of a rollout share a write
	saveDelay = time.Second
	saveRetry = 10 * time.Second // the minimum time from a failed write to the next one
)

// disk keeps the last known endpoints and live config of each key in a file.
// save does not wait for the file system, load and close do. It is safe for
// concurrent use.
type disk struct {
	cfg Config

	writing sync.Mutex     // held while files are written
	failing map[place]bool // the keys whose last write failed; guarded by writing

	mu      sync.Mutex
	unsaved map[place]*saved
	timer   *time.Timer // calls flush; nil while all is saved
	next    time.Time   // when flush may be called again
	closed  bool
}

func newDisk(cfg Config) *disk {
	return &disk{cfg: cfg, unsaved: make(map[place]*saved), failing: make(map[place]bool)}
}

// save writes the state of a key after saveDelay. If save is called again
// before that, only the last state is written.
func (d *disk) save(p place, s *saved) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.cfg.SnapshotDir == "" || d.closed {
		return
	}

	d.unsaved[p] = s
	d.schedule()
}

// schedule starts the timer if it is not running. It must be called with mu
// held.
func (d *disk) schedule() {
	if d.timer == nil && !d.closed {
		d.timer = time.AfterFunc(max(saveDelay, time.Until(d.next)), d.flush)
	}
}

// flush writes the unsaved states. The pause until the next flush is at least
// fifty times as long as the writes took.
func (d *disk) flush() {
	d.writing.Lock()
	defer d.writing.Unlock()

	d.mu.Lock()
	due := d.unsaved
	d.unsaved = make(map[place]*saved)
	d.mu.Unlock()

	began := time.Now()

	pause := time.Duration(0)
	for p, s := range due {
		if d.written(p, s, d.write(p, s)) {
			pause = saveRetry
		}
	}

	// Killed processes leave temporary files. Younger ones may be of other
	// processes that share the directory.
	files, _ := filepath.Glob(filepath.Join(d.cfg.SnapshotDir, ".tmp-*"))
	for _, file := range files {
		info, err := os.Lstat(file)
		if err == nil && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(file) // it may be gone
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	d.timer = nil
	d.next = time.Now().Add(max(pause, 50*time.Since(began)))

	if len(d.unsaved) > 0 {
		d.schedule()
	}
}

// written handles the outcome of a write, and reports whether to retry. It logs
// only the first of successive failures of a key.
func (d *disk) written(p place, s *saved, err error) (retry bool) {
	if err == nil {
		delete(d.failing, p)
		return false
	}

	if !d.failing[p] { // without mu: the logger may be slow, or call the registry
		d.failing[p] = true
		d.cfg.Logger.Warn("the endpoints cannot be saved on disk", "key", p.From,
			"error", err)
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	retry = !errors.Is(err, errSnapshotTooLarge)
	if retry && d.unsaved[p] == nil {
		d.unsaved[p] = s
	}

	return retry
}

// close writes the unsaved states.
func (d *disk) close() {
	d.mu.Lock()
	d.closed = true

	if d.timer != nil {
		d.timer.Stop()
	}

	d.mu.Unlock()

	d.flush()
}

// path returns the path of a key's file. The hash in it distinguishes long keys
// with a common prefix, keys that differ in case, and layouts.
func (d *disk) path(p place) string {
	name := url.QueryEscape(p.From)
	sum := sha256.Sum256([]byte(p.String()))

	return filepath.Join(d.cfg.SnapshotDir, fmt.Sprintf("%.150s-%x.json", name, sum[:8]))
}

// write replaces the file of a key by renaming a temporary file, so that
// readers see either the old content or the new one.
func (d *disk) write(p place, s *saved) error {
	text, err := encodeSnapshot(s, time.Now())
	if err != nil {
		return err
	}

	if err := os.MkdirAll(d.cfg.SnapshotDir, 0o700); err != nil {
		return err
	}

	temp, err := os.CreateTemp(d.cfg.SnapshotDir, ".tmp-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // fails after the rename

	_, err = temp.Write(text)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return err
	}

	return os.Rename(temp.Name(), d.path(p))
}

// load returns the content of a key's file, without endpoints if the file is
// missing or unusable. It checks addresses and the config again: the process
// that wrote the file may have allowed other addresses, and linked other
// policies.
func (d *disk) load(p place) saved {
	if d.cfg.SnapshotDir == "" {
		return saved{}
	}

	s, at, err := read(d.path(p))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			d.cfg.Logger.Warn("the endpoints saved on disk cannot be used", "key",
				p.From, "error", err)
		}

		return saved{}
	}

	found := len(s.set)

	s.set = slices.DeleteFunc(s.set, func(b *Backend) bool {
		return d.cfg.Allowed(b.Endpoint.Addr) != nil
	})
	if n := found - len(s.set); n > 0 {
		d.cfg.Logger.Warn(
			"endpoints saved on disk are left out: their addresses are not allowed",
			"key", p.From, "endpoints", n)
	}

	if s.live != "" {
		s.live, _, err = d.cfg.read(liveConfig{s.live, len(s.live)}, time.Now())
		if err != nil {
			d.cfg.Logger.Warn("the live service config saved on disk cannot be used",
				"key", p.From, "error", err)
		}
	}

	if len(s.set) > 0 {
		d.cfg.Logger.Warn(
			"etcd does not answer; starting from the endpoints saved on disk", "key",
			p.From, "endpoints", len(s.set), "age", time.Since(at).Round(time.Second))
	}

	return s
}

// read reads a snapshot file. It reads at most maxSnapshot bytes: a longer file
// is malformed. It refuses pipes, which would block.
func read(path string) (s saved, at time.Time, err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return saved{}, time.Time{}, fmt.Errorf("%s is not a regular file", path)
	}

	f, err := os.Open(path)
	if err != nil {
		return saved{}, time.Time{}, err
	}
	defer func() { _ = f.Close() }()

	content, err := io.ReadAll(io.LimitReader(f, maxSnapshot))
	if err == nil {
		s, at, err = decodeSnapshot(content)
	}

	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}

	return s, at, err
}

// maxSnapshot bounds a snapshot file, in bytes, both when it is written and
// when it is read.
const maxSnapshot = 32 << 20

var errSnapshotTooLarge = fmt.Errorf("the snapshot has more than %d bytes", maxSnapshot)

// snapshot is the content of a snapshot file.
type snapshot struct {
	Saved     time.Time           `json:"saved"`
	Live      json.RawMessage     `json:"live_config,omitempty"`
	Endpoints []endpoint.Endpoint `json:"endpoints"`
}

// encodeSnapshot returns the content of a snapshot file.
func encodeSnapshot(s *saved, now time.Time) ([]byte, error) {
	file := snapshot{now.UTC(), json.RawMessage(s.live),
		make([]endpoint.Endpoint, len(s.set))}
	for i, b := range s.set {
		file.Endpoints[i] = b.Endpoint
	}

	text, err := json.Marshal(file)
	if len(text) > maxSnapshot {
		err = errSnapshotTooLarge
	}

	return text, err
}

// decodeSnapshot parses the content of a snapshot file. Like values in etcd, it
// is not trusted: addresses are checked, and endpoints that share an address
// are merged like entries in etcd. The caller checks the live config.
func decodeSnapshot(text []byte) (s saved, at time.Time, err error) {
	var file snapshot
	if err := json.Unmarshal(text, &file); err != nil {
		return saved{}, time.Time{}, err
	}

	items := make([]*item, len(file.Endpoints))
	for i, e := range file.Endpoints {
		if err := endpoint.CheckAddr(e.Addr, true); err != nil {
			return saved{}, time.Time{}, fmt.Errorf("endpoint %d: %w", i, err)
		}

		e.Instance = cmp.Or(e.Instance, e.Addr)
		items[i] = &item{Key: strconv.Itoa(i), Value: model.New(e, endpoint.EndpointJSON)}
	}

	set, _ := new(merger).merge(items)

	return saved{set: set, live: string(file.Live)}, file.Saved, nil
}
