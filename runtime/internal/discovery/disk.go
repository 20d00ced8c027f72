package discovery

import (
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/endpointfile"
)

const (
	saveDelay    = time.Second      // before a write, to gather the changes of a rollout
	saveSpacing  = 10 * time.Second // between two rounds of writes while endpoints keep changing
	retryMin     = 10 * time.Second // before what could not be written is tried again; doubles
	retryMax     = time.Minute
	diskPatience = 5 * time.Second        // before a file system that does not answer is reported
	flushBound   = 100 * time.Millisecond // for the last writes, in close
)

// disk keeps the last known endpoints and live configs of keys in files. A file system may hang, so one goroutine does
// all of the I/O, and only close waits for it, for a moment.
type disk struct {
	dir     string // "": nothing is kept
	members func() []string
	allowed func(addr string) error // see Config
	config  func(liveConfig) (json string, err error)
	logger  *slog.Logger

	jobs chan struct{} // there is something to do
	done chan struct{} // the goroutine has ended

	mu      sync.Mutex
	started bool
	closing bool
	loads   []func()
	saves   map[place]*saved
	due     map[place]*saved        // to be written now
	dueAt   time.Time               // when saves last became due
	spacing time.Duration           // the least time from then to the next round
	timer   *time.Timer             // makes saves due; nil: not running
	timerAt time.Time               // when it does
	failing map[place]time.Duration // how long what could not be written waits to be tried again
}

func newDisk(dir string, members func() []string, allowed func(addr string) error,
	config func(liveConfig) (json string, err error), logger *slog.Logger,
) *disk {
	return &disk{
		dir: dir, members: members, allowed: allowed, config: config, logger: logger,
		jobs: make(chan struct{}, 1), done: make(chan struct{}),
		saves: make(map[place]*saved), failing: make(map[place]time.Duration),
	}
}

// load reads what was saved of a range, and calls found with it from the disk's goroutine. If nothing
// usable was saved, it does not call found.
func (d *disk) load(p place, found func(saved)) {
	if d.dir == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loads = append(d.loads, func() {
		if s := d.read(p); len(s.set) > 0 {
			found(s)
		}
	})
	d.poke()
}

// save writes what is known of a range a little later. Of several saves until then, the last counts.
func (d *disk) save(p place, s *saved) {
	if d.dir == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return
	}
	d.saves[p] = s
	d.saveIn(max(saveDelay, time.Until(d.dueAt.Add(d.spacing))))
}

// saveIn makes all saves due after a while, or earlier if that was said before. It must be called with mu held.
func (d *disk) saveIn(after time.Duration) {
	at := time.Now().Add(after)
	if d.timer != nil && !at.Before(d.timerAt) {
		return
	}
	if d.timer != nil {
		d.timer.Stop()
	}
	d.timer, d.timerAt = time.AfterFunc(after, d.saveDue), at
}

func (d *disk) saveDue() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if now.Sub(d.dueAt) > 2*saveSpacing {
		d.spacing = saveDelay
	} else {
		d.spacing = min(2*d.spacing, saveSpacing)
	}
	d.timer, d.dueAt = nil, now
	d.allDue()
}

// allDue makes all saves due, and so written next. It must be called with mu held.
func (d *disk) allDue() {
	if d.due == nil {
		d.due = d.saves
	} else {
		maps.Copy(d.due, d.saves)
	}
	d.saves = make(map[place]*saved)
	d.poke()
}

// poke has the goroutine look for work. It must be called with mu held.
func (d *disk) poke() {
	if !d.started {
		d.started = true
		go d.run()
	}
	select {
	case d.jobs <- struct{}{}:
	default:
	}
}

// run does what there is to do until close.
func (d *disk) run() {
	defer close(d.done)
	for range d.jobs {
		for job := d.next(); job != nil; job = d.next() {
			slow := time.AfterFunc(diskPatience, func() {
				d.logger.Warn("the snapshot directory does not answer; endpoints are neither remembered nor recalled meanwhile", "dir", d.dir)
			})
			job()
			slow.Stop()
		}
		d.mu.Lock()
		closing := d.closing
		d.mu.Unlock()
		if closing {
			return
		}
	}
}

// next takes a job, nil if there is none. Loads come first, because calls wait for them.
func (d *disk) next() func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.loads) > 0 {
		job := d.loads[0]
		d.loads = d.loads[1:]
		return job
	}
	for p, s := range d.due {
		delete(d.due, p)
		return func() { d.write(p, s) }
	}
	return nil
}

// close writes what is still to be saved, if the file system answers soon. The goroutine ends once it
// does.
func (d *disk) close() {
	d.mu.Lock()
	if d.closing {
		d.mu.Unlock()
		return
	}
	d.closing, d.loads = true, nil
	if d.timer != nil {
		d.timer.Stop()
	}
	started := d.started || len(d.saves) > 0
	if started {
		d.allDue()
	}
	d.mu.Unlock()
	if !started {
		return
	}
	select {
	case <-d.done:
	case <-time.After(flushBound):
		d.logger.Warn("the snapshot directory does not answer; the last endpoints may not be remembered", "dir", d.dir)
	}
}

// source describes the origin of a range's endpoints. It names both ends of the range: one with the
// lease suffix begins like the one without, and holds more.
func (d *disk) source(p place, cluster uint64) endpointfile.Source {
	return endpointfile.Source{Cluster: cluster, Members: d.members(), Range: p.String()}
}

func (d *disk) read(p place) saved {
	snapshot, err := endpointfile.Load(d.dir, d.source(p, 0))
	if errors.Is(err, fs.ErrNotExist) {
		return saved{}
	}
	if err != nil {
		d.logger.Warn("the endpoints remembered on disk cannot be used", "key", p.From, "error", err)
		return saved{}
	}
	endpoints := d.leaveOut(p, snapshot.Endpoints)
	if len(endpoints) == 0 {
		return saved{}
	}
	d.logger.Warn("etcd does not answer; starting from the endpoints remembered on disk",
		"key", p.From, "endpoints", len(endpoints), "age", time.Since(snapshot.Saved).Round(time.Second))
	set := make([]*Backend, len(endpoints))
	for i, e := range endpoints {
		set[i] = newBackend(e, endpoint.EndpointJSON)
	}
	return saved{set: set, live: d.usable(p, snapshot.Live)}
}

// usable returns the live config of a snapshot as canonical JSON, "" if it may not be in force. The process that saved it may
// have known other policies.
func (d *disk) usable(p place, live string) string {
	if live == "" {
		return ""
	}
	json, err := d.config(liveConfig{live, len(live)})
	if err != nil {
		d.logger.Warn("the live service config remembered on disk cannot be used", "key", p.From, "error", err)
	}
	return json
}

// leaveOut leaves out the endpoints that may not be dialed. They may be there because another process saved them, or
// this one with other prefixes allowed.
func (d *disk) leaveOut(p place, endpoints []endpoint.Endpoint) []endpoint.Endpoint {
	leftOut, last := 0, error(nil)
	endpoints = slices.DeleteFunc(endpoints, func(e endpoint.Endpoint) bool {
		err := d.allowed(e.Addr)
		if err != nil {
			leftOut, last = leftOut+1, err
		}
		return err != nil
	})
	if leftOut > 0 {
		d.logger.Warn("endpoints remembered on disk are left out", "key", p.From, "endpoints", leftOut, "last_error", last)
	}
	return endpoints
}

func (d *disk) write(p place, s *saved) {
	endpoints := make([]endpoint.Endpoint, len(s.set))
	for i, b := range s.set {
		endpoints[i] = b.Endpoint
	}
	err := endpointfile.Save(d.dir, d.source(p, s.cluster), endpointfile.Snapshot{Endpoints: endpoints, Live: s.live, Saved: time.Now()})
	switch failed := d.written(p, s, err); {
	case err != nil && !failed:
		d.logger.Warn("the endpoints cannot be remembered on disk", "key", p.From, "error", err)
	case err == nil && failed:
		d.logger.Info("the endpoints are remembered on disk again", "key", p.From)
	}
}

// written takes in the outcome of a write, and reports whether the one before it failed. What could not be written, as
// where the disk is full or not mounted, is saved again later, unless the range has been saved meanwhile.
func (d *disk) written(p place, s *saved, err error) (failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	pause, failed := d.failing[p]
	if err == nil {
		delete(d.failing, p)
		return failed
	}
	pause = min(max(2*pause, retryMin), retryMax)
	d.failing[p] = pause
	if d.closing || errors.Is(err, endpointfile.ErrTooLarge) || d.saves[p] != nil || d.due[p] != nil {
		return failed
	}
	d.saves[p] = s
	d.saveIn(pause)
	return failed
}
