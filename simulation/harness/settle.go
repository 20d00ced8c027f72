package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
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
func (t *trial) settle(ctx context.Context) {
	checks := []struct {
		rule check.Rule
		left func() string // describes what is still wrong, "" if nothing is
	}{
		{check.Entries, t.wrongEntries},
		{check.Status, t.wrongStatus},
		{check.Readers, func() string { return t.wrongReaders(ctx) }},
		{check.Led, t.wrongLeader},
	}
	bound := within
	if t.Plan.Auth && slices.ContainsFunc(t.Plan.Steps, func(s schedule.Step) bool {
		return s.Kind == schedule.RightsRefused || s.Kind == schedule.CallerRefused
	}) {
		bound = withinRefused
	}
	bound += t.Plan.LeaseTTL() - schedule.ShortTTL // for what a killed server has left
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
				t.Report(c.rule, "%v after the last fault: %s", bound, left)
			}
		}
		if settled || late {
			break
		}
	}
	t.callAtLast(ctx)
	t.countWatches()
}

// wrongEntries describes the entries that etcd lacks or should not have.
func (t *trial) wrongEntries() string {
	var wrong []string
	expected := make(map[string]int) // by key and address: how many entries
	for _, s := range t.all() {
		for _, key := range s.keys() {
			if s.in {
				expected[key+" "+s.addr] = max(1, len(s.spec.Layouts))
			}
		}
	}
	for _, o := range t.writers {
		expected[acme.ShopKey+" "+o.addr()] = 1
	}
	for _, key := range []string{acme.ShopKey, acme.UserKey} {
		for _, e := range t.Etcd.Entries(key + "/") {
			at := key + " " + acme.AddrIn(e.Value)
			if expected[at] > 0 {
				expected[at]--
			} else if !acme.IsOperators(e) {
				wrong = append(wrong, fmt.Sprintf("%s, which nobody wants, holds %q on lease %x", e.Key, e.Value, e.Lease))
			}
		}
	}
	for _, o := range t.writers {
		delete(expected, acme.ShopKey+" "+o.addr()) // a writer does not notice that its entry is gone
	}
	for at, n := range expected {
		if n > 0 {
			wrong = append(wrong, "there is no entry for "+at)
		}
	}
	for _, s := range t.all() {
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
func (t *trial) wrongStatus() string {
	var wrong []string
	for _, s := range t.all() {
		statuses := s.sight().statuses
		for _, status := range statuses {
			entries := s.found(status.Key)
			if !s.in || status.State != runtime.StateRegistered {
				wrong = append(wrong, fmt.Sprintf("%s is %v: %v", s.name(), status.State, status.Err))
			} else if !slices.ContainsFunc(entries, func(e etcd.Entry) bool { return e.Lease == int64(status.LeaseID) }) {
				wrong = append(wrong, fmt.Sprintf("%s says that it is registered on lease %x, and etcd has %v", s.name(), status.LeaseID, entries))
			}
		}
		if n := len(statuses); n != len(s.keys()) {
			wrong = append(wrong, fmt.Sprintf("%s has %d registrations", s.id, n))
		}
		if n := len(s.registry.Status().Registrations); n != len(s.keys())*s.spec.Servers() {
			wrong = append(wrong, fmt.Sprintf("the registry of %s has %d registrations", s.name(), n))
		}
	}
	return strings.Join(wrong, "; ")
}

// wrongReaders describes the readers whose set is not that of etcd.
func (t *trial) wrongReaders(ctx context.Context) string {
	var wrong []string
	for _, c := range t.callers {
		c.mu.Lock()
		watched, watchErr := acme.Addrs(c.watched), c.watchErr
		c.mu.Unlock()
		want := t.Registered()
		differ := func(reader string, has []string) {
			if !slices.Equal(has, want) {
				wrong = append(wrong, fmt.Sprintf("%s of %s has %v (%v), and etcd %v", reader, c.name(), has, watchErr, want))
			}
		}
		differ("the watch", watched)
		status := keyStatus(c.registry, acme.ShopKey)
		differ("the status", acme.Addrs(status.Endpoints))
		if status.Away > 0 {
			wrong = append(wrong, fmt.Sprintf("calls of %s leave for the other region", c.name()))
		}
		if status.Held > 0 || status.Err != nil {
			wrong = append(wrong, fmt.Sprintf("the status of %s has %d held, %v", c.name(), status.Held, status.Err))
		}
		if !t.InForce(status.ServiceConfig) {
			wrong = append(wrong, fmt.Sprintf("%s has the live config %q, which is not etcd's", c.name(), status.ServiceConfig))
		}
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		all, err := c.clients.instances.All(bounded)
		cancel()
		var endpoints []runtime.Endpoint
		for _, i := range all {
			endpoints = append(endpoints, i.Endpoint)
		}
		if differ("the instances", acme.Addrs(endpoints)); err != nil {
			wrong = append(wrong, fmt.Sprintf("the instances of %s: %v", c.name(), err))
		}
	}
	return strings.Join(wrong, "; ")
}

// serversEntries returns the entries on a lease that name an address of a server.
func (t *trial) serversEntries() []etcd.Entry {
	return slices.DeleteFunc(t.Etcd.Entries(acme.Prefix), func(e etcd.Entry) bool {
		servers := func(s *server) bool { return strings.Contains(e.Value, s.host+":") }
		return e.Lease == acme.NoLease || !slices.ContainsFunc(t.servers, servers)
	})
}
