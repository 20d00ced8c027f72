// Package etcd runs real etcd servers, one or three, inside a testing/synctest
// bubble. Clients reach them over an in-memory network. Tests can stop, delay
// or isolate members, restore data, and delay or lose requests.
//
//	cluster.go   the cluster and its members; data.go: backups, restores, a wipe
//	process.go   one run of a member; peers.go: what members send each other
//	operator.go  what an operator does; auth.go: users and rights
//	mirror.go    a copy of the committed keys, and who asked for each change
//	queue.go     a member that serves one request at a time
//	call.go      verdicts on requests, keepalives and watches
//	unsafe.go    access to unexported variables of etcd
//
// A Cluster must be made and used inside one bubble, see Bubble. Code here must
// hold no mutex while virtual time passes, because a goroutine that waits for a
// mutex stops the clock.
package etcd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

// Cluster is an etcd cluster of one or three members.
type Cluster struct {
	network *network.Network
	addrs   []string // where clients reach the members
	dir     string
	mirror  *mirror

	// holds a value during a start, a stop, or a read or replacement of data
	changing chan struct{}

	token    string        // the initial cluster token; guarded by changing
	tokenTTL time.Duration // does not change

	mu        sync.Mutex
	members   []member
	intercept func(Call) Verdict
	queue     queue
	users     map[string]User // the users that Protect has set
}

// member is the state of a member, whose processes come and go. The cluster's
// mu guards it.
type member struct {
	// the last process, or nil if none was started since the data was replaced
	process *process

	isolated bool
	lag      time.Duration
}

// smallWAL keeps etcd from preallocating 64 MB for each file of its log, which
// takes longer than the rest of etcd's start.
var smallWAL = sync.OnceFunc(func() { wal.SegmentSizeBytes = 256 << 10 })

// New starts a cluster with a member at each client address, one or three, and
// returns when all of them serve. Each member must have a host of its own.
// tokenTTL is how long a token lasts without use, in whole seconds; 0 means
// etcd's default of 5 minutes.
func New(
	network *network.Network,
	addrs []string,
	tokenTTL time.Duration,
) (*Cluster, error) {
	smallWAL()

	dir := "/dev/shm" // in memory
	if _, err := os.Stat(dir); err != nil {
		dir = "" // the system's temporary directory
	}

	dir, err := os.MkdirTemp(dir, "etcd-simulation-")
	if err != nil {
		return nil, err
	}

	c := &Cluster{
		network:  network,
		addrs:    addrs,
		dir:      dir,
		mirror:   &mirror{observer: func(*Change) {}},
		changing: make(chan struct{}, 1),
		token:    "simulation",
		tokenTTL: tokenTTL,
		members:  make([]member, len(addrs)),
		users:    map[string]User{},
	}

	c.mirror.advanced.L = &c.mirror.mu
	c.mirror.reset(nil, firstRevision)

	for i := range addrs {
		if err := c.Start(i); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}

	for i := range addrs {
		<-c.last(i).etcd.ReadyNotify()
	}

	return c, nil
}

// Close stops all members, waits for their goroutines and removes their data.
func (c *Cluster) Close() error {
	c.stopAll()
	return os.RemoveAll(c.dir)
}

func (c *Cluster) stopAll() {
	for i := range c.members {
		c.Stop(i)
	}
}

// Start starts a member with the data on its disk, none after a Wipe, and
// returns at once. The member serves its clients once it has found a leader and
// caught up. Starting a running member does nothing.
func (c *Cluster) Start(member int) error {
	defer c.lockChanges()()

	if c.last(member).runs() {
		return nil
	}

	p, err := c.startProcess(member)
	if err != nil {
		return fmt.Errorf("etcd: start member %d: %w", member, err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.members[member].process = p

	return nil
}

// Stop ends the process of a member like a crash, with a reset of its
// connections, and waits until it has ended. Its data stays. Stopping a stopped
// member does nothing.
func (c *Cluster) Stop(member int) {
	defer c.lockChanges()()

	if p := c.last(member); p.runs() {
		p.stop()
	}
}

// lockChanges excludes other changes of members until unlock is called. Virtual
// time passes while a caller waits.
func (c *Cluster) lockChanges() (unlock func()) {
	c.changing <- struct{}{}
	return func() { <-c.changing }
}

// last returns the last process of a member, nil if there was none since the
// data was replaced.
func (c *Cluster) last(member int) *process {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.members[member].process
}

// newest returns the last process of the member with the highest applied index,
// nil if none was started since the data was replaced.
func (c *Cluster) newest() *process {
	c.mu.Lock()
	defer c.mu.Unlock()

	var newest *process
	for _, m := range c.members {
		p := m.process
		if p != nil &&
			(newest == nil || p.etcd.AppliedIndex() > newest.etcd.AppliedIndex()) {
			newest = p
		}
	}

	return newest
}

// leader returns the leader, or nil if there is none or it is isolated. If two
// members claim to lead, the later term counts.
func (c *Cluster) leader() *process {
	c.mu.Lock()
	defer c.mu.Unlock()

	var leader *process
	for _, m := range c.members {
		p := m.process
		leads := p.runs() && !m.isolated && p.etcd.Leader() == p.etcd.MemberID()
		if leads && (leader == nil || p.etcd.Term() > leader.etcd.Term()) {
			leader = p
		}
	}

	return leader
}

// The ids of the cluster and its members depend on the members' names and peer
// URLs, and on the cluster token.

func name(member int) string {
	return fmt.Sprintf("m%d", member)
}

// peerURL names a socket that does not exist, so that each attempt of NewServer
// to dial a peer fails at once.
func peerURL(member int) string {
	return "unix://" + name(member)
}

func (c *Cluster) dataDir(member int) string {
	return filepath.Join(c.dir, name(member))
}

// initialCluster returns the members and their peer URLs as etcd's flag
// --initial-cluster has them.
func (c *Cluster) initialCluster() string {
	var members []string
	for i := range c.members {
		members = append(members, name(i)+"="+peerURL(i))
	}

	return strings.Join(members, ",")
}
