package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
)

const (
	// examineEvery is how often faults of a service that somebody looks at are looked for.
	examineEvery = 30 * time.Second
	// maxExamined bounds the services whose findings are kept.
	maxExamined = 64
)

// examiner looks for the faults of services, in the background, for a fleet.
type examiner struct {
	fleet   *liveFleet
	ctx     context.Context
	running sync.WaitGroup

	mu    sync.Mutex
	known map[string]*console.Findings
}

func newExaminer(ctx context.Context, f *liveFleet) *examiner {
	return &examiner{fleet: f, ctx: ctx, known: make(map[string]*console.Findings)}
}

// Findings is part of console.Backend.
func (x *examiner) Findings(key string, anew bool) console.Findings {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := x.known[key]
	if found == nil {
		x.forget()
		found = &console.Findings{}
		x.known[key] = found
	}
	if !found.Running && x.ctx.Err() == nil && (anew || time.Since(found.At) > examineEvery) {
		found.Running = true
		x.running.Go(func() { x.examine(key) })
	}
	return *found
}

// wait returns when nothing is looked for any more, once the context has ended.
func (x *examiner) wait() {
	x.mu.Lock()   // whoever holds it may still start something
	x.mu.Unlock() //nolint:staticcheck // nothing is to be done in between
	x.running.Wait()
}

// forget makes room for one more service.
func (x *examiner) forget() {
	for len(x.known) >= maxExamined {
		oldest := ""
		for key, found := range x.known {
			if oldest == "" || found.At.Before(x.known[oldest].At) {
				oldest = key
			}
		}
		delete(x.known, oldest)
	}
}

func (x *examiner) examine(key string) {
	all, err := x.fleet.examine(x.ctx, key)
	x.mu.Lock()
	found := &console.Findings{At: time.Now(), All: all, Err: problemOf(err)}
	x.known[key] = found
	x.mu.Unlock()
	x.fleet.tell()
}

// examine does what doctor does for one service, with what is known of etcd already, and connects to no instance.
func (f *liveFleet) examine(ctx context.Context, key string) ([]console.Finding, error) {
	v := f.look()
	s := v.services[key]
	if s == nil {
		return nil, nil
	}
	own := *s
	own.instances, own.malformed = slices.Clone(s.instances), slices.Clone(s.malformed)
	p := newPatient(f.store)
	p.key, p.services = key, []*service{&own}
	if err := p.readLeases(ctx, f.store); err != nil {
		return nil, err
	}
	for _, other := range v.all {
		if other != s && other.evident() {
			p.services = append(p.services, other)
		}
	}
	p.alone = p.oneHost()
	var all []console.Finding
	for _, found := range p.report(&doctor{noDial: true}).Findings {
		if f.concerns(found, key) {
			all = append(all, console.Finding{Kind: string(found.Kind), Problem: found.Problem, Fix: found.Fix, Where: found.Where})
		}
	}
	return all, ctx.Err()
}

// newPatient returns what doctor looks at, without services. That the password is sent without TLS is no fault of theirs.
func newPatient(s *store) *patient {
	return &patient{full: s.full, etcd: etcdHosts(s.client.Endpoints())}
}

// concerns reports whether a finding is about a service: doctor tells of all that share a TLS name.
func (f *liveFleet) concerns(found finding, key string) bool {
	return len(found.Where) == 0 || found.Kind != kindTLSName || slices.Contains(found.Where, f.store.full(key)+"/")
}

// findingCounts counts what is wrong with services as far as it shows without their leases.
func findingCounts(services []*service, s *store) map[string]int {
	p, full := newPatient(s), s.full
	owners := make(map[string]string) // of keys of etcd that findings are about
	for _, s := range services {
		if !s.evident() {
			continue
		}
		p.services = append(p.services, s)
		owners[full(s.key)], owners[full(s.key)+"/"], owners[full(configPrefix+s.key)] = s.key, s.key, s.key
		for _, i := range slices.Concat(s.instances, s.malformed) {
			owners[full(i.entry.key)] = s.key
		}
	}
	p.alone = p.oneHost()
	counts := make(map[string]int)
	for _, found := range p.report(&doctor{noDial: true}).Findings {
		told := make(map[string]bool)
		for _, where := range found.Where {
			if key, ok := owners[where]; ok && !told[key] {
				told[key] = true
				counts[key]++
			}
		}
	}
	return counts
}
