package world

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// rules decide what becomes of the requests of processes to etcd.
type rules struct {
	w      *World
	mu     sync.Mutex
	active []*rule
	second time.Time   // in which asked is counted
	asked  map[int]int // by process
	served map[int]int // by process: all that were not refused, for etcd's client repeats those every 25 ms
}

// flood is how many requests of a process within a second are no accident. It is then slowed down, so that time goes on.
const flood = 500

// rule is for the requests of one process.
type rule struct {
	process int
	method  string // one, or schedule.AnyWrite or AnyMethod
	verdict etcd.Verdict
}

func newRules(w *World) *rules {
	r := &rules{w: w, served: make(map[int]int)}
	w.etcd.Intercept(r.judge)
	return r
}

// add has a rule hold until the returned function is called.
func (r *rules) add(process int, method string, verdict etcd.Verdict) (remove func()) {
	added := &rule{process, method, verdict}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active = append(r.active, added)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.active = slices.DeleteFunc(r.active, func(a *rule) bool { return a == added })
	}
}

func (r *rules) judge(c etcd.Call) etcd.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	process := processAt(c.Client)
	r.w.note("%s asks member %d: %s %q", r.w.plan.Name(process), c.Member, c.Method, c.Keys)
	if now := time.Now().Truncate(time.Second); !now.Equal(r.second) {
		r.second, r.asked = now, make(map[int]int)
	}
	if r.asked[process]++; r.asked[process] > flood {
		return etcd.Verdict{Before: 100 * time.Millisecond}
	}
	for _, a := range r.active {
		if a.process == process && (a.method == schedule.AnyMethod || a.method == schedule.AnyWrite && c.Write || a.method == c.Method) {
			if a.verdict.Err == nil {
				r.served[process]++
			}
			return a.verdict
		}
	}
	r.served[process]++
	return etcd.Verdict{}
}

// rights say what each process may do in etcd, where etcd asks for passwords.
type rights struct {
	w       *World
	mu      sync.Mutex
	refused map[int]string // by process: what it may not do now
}

func newRights(w *World) *rights {
	r := &rights{w: w, refused: make(map[int]string)}
	r.apply()
	return r
}

// refuse takes a right from a process until the returned function is called.
func (r *rights) refuse(process int, what string) (back func()) {
	set := func(what string) {
		r.mu.Lock()
		r.refused[process] = what
		r.mu.Unlock()
		r.apply()
	}
	set(what)
	return func() { set("") }
}

// apply tells etcd who may do what.
func (r *rights) apply() {
	if !r.w.plan.Auth {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	users := []etcd.User{{Name: "root", Password: password, Root: true}}
	for i := range r.w.plan.Processes() + len(r.w.plan.Servers) { // the twins, too
		users = append(users, etcd.User{Name: r.w.plan.Name(i), Password: password, Rights: rightsWithout(r.refused[i])})
	}
	r.w.etcd.Protect(users...)
}

const (
	password = "secret"
	// configs is where live configs are.
	configs = "_grpc_config/"
)

// rightsWithout returns the rights of a process to which one thing is refused.
func rightsWithout(what string) []etcd.Right {
	services := etcd.Right{From: "acme/", To: "acme0", Read: what != schedule.Read, Write: what != schedule.Write}
	config := etcd.Right{From: configs, To: strings.TrimSuffix(configs, "/") + "0", Read: what != schedule.ReadConfig}
	return []etcd.Right{services, config}
}

// servedTo returns how many requests of a process etcd has taken.
func (r *rules) servedTo(process int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.served[process]
}
