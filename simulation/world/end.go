package world

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// within is how long after the last fault everything must be as it should be.
	within = 15 * time.Second
	// withinRefused is within where rights were refused: refused reads are tried again after a minute at the latest.
	withinRefused = 65 * time.Second
	// looking is how often that is checked until then.
	looking = 250 * time.Millisecond
)

// settle waits until everything is as it should be in the end, and reports what is not within a bound.
func (w *World) settle(ctx context.Context) {
	checks := []struct {
		rule check.Rule
		left func() string // describes what is still wrong, "" if nothing is
	}{
		{check.Entries, w.wrongEntries},
		{check.Status, w.wrongStatus},
		{check.Readers, func() string { return w.wrongReaders(ctx) }},
		{check.Led, w.wrongLeader},
	}
	bound := within
	if w.plan.Auth && slices.ContainsFunc(w.plan.Steps, func(s schedule.Step) bool { return s.Kind == schedule.RightsRefused }) {
		bound = withinRefused
	}
	for end := time.Now().Add(bound); ; time.Sleep(looking) {
		settled := true
		late := !time.Now().Before(end)
		for _, c := range checks {
			left := c.left()
			if left == "" {
				continue
			}
			settled = false
			if late {
				w.report(c.rule, "%v after the last fault: %s", bound, left)
			}
		}
		if settled || late {
			break
		}
	}
	w.wrongCalls(ctx)
	w.wrongLanes(ctx)
	w.wrongAffinities(ctx)
	w.wrongTargets(ctx)
	w.wrongLeaderCalls(ctx)
	w.wrongConnections()
	w.wrongTimeouts(ctx)
}

// mostConnections is how many a caller may have to a server: one for each of its clients.
const mostConnections = 3

// wrongConnections reports callers with more connections to a server than they have clients.
func (w *World) wrongConnections() {
	for _, c := range w.callers {
		for i := range w.servers {
			if n := w.network.Connections(c.from, w.plan.Host(i)); n > mostConnections {
				w.report(check.LeftBehind, "%s has %d connections to %s", c.name(), n, w.plan.Name(i))
			}
		}
	}
}

// wrongEntries describes the entries that etcd lacks or should not have.
func (w *World) wrongEntries() string {
	var wrong []string
	expected := make(map[string]int) // by key and address: how many entries
	for _, s := range w.servers {
		for _, key := range s.keys() {
			if s.in {
				expected[key+" "+s.addr] = max(1, len(s.spec.Layouts))
			}
		}
	}
	for _, o := range w.writers {
		expected[shopKey+" "+o.addr()] = 1
	}
	for _, key := range []string{shopKey, userKey} {
		for _, e := range w.etcd.Entries(key + "/") {
			at := key + " " + addrPattern.FindString(e.Value)
			if expected[at] > 0 {
				expected[at]--
			} else if !isOperators(e) {
				wrong = append(wrong, fmt.Sprintf("%s, which nobody wants, holds %q on lease %x", e.Key, e.Value, e.Lease))
			}
		}
	}
	for _, o := range w.writers {
		delete(expected, shopKey+" "+o.addr()) // a writer does not notice that its entry is gone
	}
	for at, n := range expected {
		if n > 0 {
			wrong = append(wrong, "there is no entry for "+at)
		}
	}
	for _, s := range w.servers {
		for _, key := range s.keys() {
			if lacks := s.lacks(key); s.in && lacks != "" {
				wrong = append(wrong, lacks)
			}
		}
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "; ")
}

// wrongStatus describes the registrations whose status is not true.
func (w *World) wrongStatus() string {
	var wrong []string
	for _, s := range w.servers {
		for _, status := range s.registry.Status().Registrations {
			entries := s.found(status.Key)
			if !s.in || status.State != runtime.StateRegistered {
				wrong = append(wrong, fmt.Sprintf("%s is %v: %v", s.name(), status.State, status.Err))
			} else if !slices.ContainsFunc(entries, func(e etcd.Entry) bool { return e.Lease == int64(status.LeaseID) }) {
				wrong = append(wrong, fmt.Sprintf("%s says that it is registered on lease %x, and etcd has %v", s.name(), status.LeaseID, entries))
			}
		}
		if n := len(s.registry.Status().Registrations); n != len(s.keys()) {
			wrong = append(wrong, fmt.Sprintf("%s has %d registrations", s.name(), n))
		}
	}
	return strings.Join(wrong, "; ")
}

// wrongReaders describes the readers whose set is not that of etcd.
func (w *World) wrongReaders(ctx context.Context) string {
	var wrong []string
	for _, c := range w.callers {
		c.mu.Lock()
		watched, watchErr := addrsOf(c.watched), c.watchErr
		c.mu.Unlock()
		want := w.registered()
		differ := func(reader string, has []string) {
			if !slices.Equal(has, want) {
				wrong = append(wrong, fmt.Sprintf("%s of %s has %v (%v), and etcd %v", reader, c.name(), has, watchErr, want))
			}
		}
		differ("the watch", watched)
		status := keyStatus(c.registry, shopKey)
		differ("the status", addrsOf(status.Endpoints))
		if status.Held > 0 || status.Err != nil {
			wrong = append(wrong, fmt.Sprintf("the status of %s has %d held, %v", c.name(), status.Held, status.Err))
		}
		if !w.inForce(status.ServiceConfig) {
			wrong = append(wrong, fmt.Sprintf("%s has the live config %q, which is not etcd's", c.name(), status.ServiceConfig))
		}
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		all, err := c.clients.instances.All(bounded)
		cancel()
		var endpoints []runtime.Endpoint
		for _, i := range all {
			endpoints = append(endpoints, i.Endpoint)
		}
		if differ("the instances", addrsOf(endpoints)); err != nil {
			wrong = append(wrong, fmt.Sprintf("the instances of %s: %v", c.name(), err))
		}
	}
	return strings.Join(wrong, "; ")
}

func addrsOf(endpoints []runtime.Endpoint) []string {
	var addrs []string
	for _, ep := range endpoints {
		addrs = append(addrs, ep.Addr)
	}
	slices.Sort(addrs)
	return addrs
}

// tearDown stops every process in order, and reports what is left behind.
func (w *World) tearDown(ctx context.Context) {
	for _, s := range w.servers {
		s.stop(ctx)
	}
	for _, e := range w.etcd.Entries(prefix) {
		if e.Lease != 0 && w.isServers(e) {
			w.report(check.LeftBehind, "%s holds %q on lease %x after all servers have stopped in order", e.Key, e.Value, e.Lease)
		}
	}
	for _, e := range w.etcd.Entries(leaders) {
		w.report(check.LeftBehind, "%s holds %q on lease %x after all servers have stopped in order", e.Key, e.Value, e.Lease)
	}
	w.ghosts.Wait() // callers hear that servers have left
	for _, c := range w.callers {
		c.stop(ctx)
	}
	for _, o := range w.writers {
		o.kill()
	}
	time.Sleep(2 * ttl) // until what was left to expire has expired
	for _, lease := range w.etcd.Leases() {
		w.report(check.LeftBehind, "lease %x with %v is left in etcd", lease.ID, lease.Keys)
	}
	w.etcd.Close()
	if n := w.network.Connections("", ""); n > 0 {
		w.report(check.LeftBehind, "%d connections are open", n)
	}
}

// isServers reports whether the entry names an address of a server.
func (w *World) isServers(e etcd.Entry) bool {
	return slices.ContainsFunc(w.servers, func(s *server) bool { return strings.Contains(e.Value, s.host+":") })
}
