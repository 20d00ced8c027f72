package harness

import (
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// requests decides what becomes of the requests of processes to etcd, and counts them.
type requests struct {
	w      *world
	mu     sync.Mutex
	active []*rule
	second time.Time            // in which asked is counted
	asked  map[int]int          // by process
	came   map[int]check.Counts // by process: all that it has asked for so far
}

const (
	// flood is how many requests of a process within a second are no accident. More are slowed down, or virtual time would
	// stand still.
	flood = 500
	// slowed is how long each of them then takes.
	slowed = 100 * time.Millisecond
)

// rule is for the requests of one process.
type rule struct {
	who     int
	method  string // one, or schedule.AnyWrite or AnyMethod
	verdict etcd.Verdict
}

func newRequests(w *world) *requests {
	r := &requests{w: w, came: make(map[int]check.Counts)}
	w.etcd.Intercept(r.judge)
	return r
}

// add has a rule hold until the returned function is called.
func (r *requests) add(who int, method string, verdict etcd.Verdict) (remove func()) {
	added := &rule{who, method, verdict}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active = append(r.active, added)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.active = slices.DeleteFunc(r.active, func(a *rule) bool { return a == added })
	}
}

func (r *requests) judge(c etcd.Call) etcd.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	who := r.w.plan.ProcessAt(c.Client)
	r.w.note("%s asks member %d: %s %q", r.w.plan.Name(who), c.Member, c.Method, c.Keys)
	if now := time.Now().Truncate(time.Second); !now.Equal(r.second) {
		r.second, r.asked = now, make(map[int]int)
	}
	verdict := r.verdict(who, c)
	r.count(who, c, verdict.Err != nil)
	if r.asked[who]++; r.asked[who] > flood {
		verdict.Before += slowed
	}
	return verdict
}

// verdict returns what the rule that holds says, nothing if there is none. It must be called with mu held.
func (r *requests) verdict(who int, c etcd.Call) etcd.Verdict {
	for _, a := range r.active {
		if a.who == who && (a.method == schedule.AnyMethod || a.method == schedule.AnyWrite && c.Write || a.method == c.Method) {
			return a.verdict
		}
	}
	return etcd.Verdict{}
}

// count counts a request of a process. It must be called with mu held.
func (r *requests) count(who int, c etcd.Call, refused bool) {
	came := r.came[who]
	switch {
	case refused && slices.Contains(repeated, c.Method):
		came.Repeated++
	case c.Method == "Authenticate":
		came.Tokens++
	default:
		came.Requests++
	}
	r.came[who] = came
}

// repeated are the requests that etcd's client repeats by itself while they are refused as unavailable: every 25 ms for as
// long as its caller waits, a hundred times at most, and watches about every 100 ms, for each of its streams.
var repeated = []string{"Range", "LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "Watch"}

// askedBy returns what a process has asked etcd for so far.
func (r *requests) askedBy(who int) check.Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.came[who]
}
