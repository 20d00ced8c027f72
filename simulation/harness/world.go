package harness

import (
	"fmt"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// world is what processes run in.
type world struct {
	*record.Record
	network  *network.Network
	entries  acme.Reader
	rights   *rights
	requests *requests
	election *election
	later    sync.WaitGroup // what is left of killed processes, and looks that are due

	temp string // a directory; "": none

	mu   sync.Mutex
	down []int // by member: how many steps keep it down
}

func newWorld(plan schedule.Schedule, network *network.Network) *world {
	e := &election{store: new(leader.Fence)}
	e.Record = record.New(plan, etcd.New(plan.Members), e.resigned)
	w := &world{Record: e.Record, network: network, election: e, down: make([]int, plan.Members)}
	w.requests = newRequests(w.Record)
	w.rights = newRights(w.Record)
	for i := range plan.Members {
		w.serveMember(i)
	}
	return w
}

// setLink sets the link between where a life dials from and a member of etcd, which is as far away as the schedule says.
func (w *world) setLink(from string, member int, l network.Link) {
	l.Delay += w.line()
	w.network.Set(from, w.Plan.MemberHost(member), l)
}

// line is how long a message to etcd takes each way, at the least.
func (w *world) line() time.Duration { return time.Duration(w.Plan.Line) * time.Millisecond }

// far says how far away etcd is, "" if it is near.
func (w *world) far() string {
	if w.line() == 0 {
		return ""
	}
	return fmt.Sprintf(", %v away", 2*w.line())
}

func (w *world) memberAddrs() []string {
	var addrs []string
	for i := range w.Plan.Members {
		addrs = append(addrs, w.Plan.MemberAddr(i))
	}
	return addrs
}

// stopMember stops a member of etcd, until it has been started as often as it was stopped.
func (w *world) stopMember(i int) {
	w.mu.Lock()
	w.down[i]++
	first := w.down[i] == 1
	w.mu.Unlock()
	if first {
		w.Etcd.Stop(i)
	}
}

// startMember starts a member that was stopped.
func (w *world) startMember(i int) {
	w.mu.Lock()
	w.down[i]--
	last := w.down[i] == 0
	w.mu.Unlock()
	if last {
		w.serveMember(i)
	}
}

func (w *world) serveMember(i int) {
	listener, err := w.network.Listen(w.Plan.MemberAddr(i))
	if err != nil {
		panic(err) // a fault of the world's own
	}
	w.Etcd.Serve(i, listener)
}

// reset changes all that etcd has, while every member is down. repeats says whether revisions may repeat then.
func (w *world) reset(down time.Duration, change func(), repeats bool) {
	for i := range w.Plan.Members {
		w.stopMember(i)
	}
	time.Sleep(down)
	w.Reset(change, repeats)
	w.rights.apply() // a backup has the rights of its time
	w.Note("reset to revision %d", w.Etcd.Revision())
	for i := range w.Plan.Members {
		w.startMember(i)
	}
}
