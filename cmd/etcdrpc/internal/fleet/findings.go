package fleet

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/console"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

const (
	// examineEvery is how often faults of a service that somebody looks at are looked for.
	examineEvery = 30 * time.Second
	// maxExamined bounds the services whose findings are kept.
	maxExamined = 64
)

// examiner looks for the faults of services, in the background, for a fleet.
type examiner struct {
	fleet   *Fleet
	ctx     context.Context
	running sync.WaitGroup

	mu    sync.Mutex
	known map[string]*examined
}

// examined is what was found of a service.
type examined struct {
	console.Findings
	config string // the version of the live config that it was found of
}

// findings returns what is known, and has it looked for again if that was long ago, or if anew. What was found of another
// live config is not known any more: it may be what the new one mends.
func (x *examiner) findings(key, config string, anew bool) console.Findings {
	x.mu.Lock()
	defer x.mu.Unlock()
	found := x.known[key]
	if found == nil {
		x.forget()
		found = &examined{config: config}
		x.known[key] = found
	}
	if found.config != config {
		found.Findings, found.config = console.Findings{Running: found.Running}, config
	}
	if !found.Running && x.ctx.Err() == nil && (anew || time.Since(found.At) > examineEvery) {
		found.Running = true
		x.running.Go(func() { x.examine(key) })
	}
	return found.Findings
}

// Findings is part of console.Backend.
func (f *Fleet) Findings(key string, anew bool) console.Findings {
	return f.examiner.findings(key, f.look().config(key), anew)
}

// config returns a text that differs whenever the live config of a service does.
func (v *snapshot) config(key string) string {
	revision := int64(0)
	if s := v.services[key]; s != nil {
		revision = s.ConfigRevision()
	}
	return fmt.Sprint(v.listing.Era, ".", revision)
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
	v := x.fleet.look()
	all, err := x.fleet.examine(x.ctx, v, key)
	x.mu.Lock()
	x.known[key] = &examined{console.Findings{At: time.Now(), All: all, Err: problemOf(err)}, v.config(key)}
	x.mu.Unlock()
	x.fleet.tell()
}

// examine does what doctor does for one service, with what is known of etcd already, and connects to no instance.
func (f *Fleet) examine(ctx context.Context, v *snapshot, key string) ([]doctor.Finding, error) {
	s := v.services[key]
	if s == nil {
		return nil, nil
	}
	services := slices.DeleteFunc(slices.Clone(v.all), func(o *survey.Service) bool { return o != s && !o.Proven() })
	report, err := doctor.Known(ctx, f.store, services, key)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(report.Findings, func(found doctor.Finding) bool { // of others that share a TLS name
		return found.Kind == doctor.KindTLSName && len(found.Where) > 0 && !slices.Contains(found.Where, f.store.Full(key)+"/")
	}), nil
}

// kinds are those of what is wrong with a service.
type kinds struct {
	names   []string // each once
	failing bool     // some of it has calls fail or go astray
}

// findingKinds returns the kinds of what is wrong with services, by their keys, as far as it shows without their leases.
func findingKinds(services []*survey.Service, s *store.Store) map[string]kinds {
	var evident []*survey.Service
	full := s.Full
	owners := make(map[string]string) // of keys of etcd that findings are about
	for _, s := range services {
		if !s.Proven() {
			continue
		}
		evident = append(evident, s)
		owners[full(s.Key)], owners[full(s.Key)+"/"], owners[full(survey.ConfigPrefix+s.Key)] = s.Key, s.Key, s.Key
		for _, i := range slices.Concat(s.Instances, s.Malformed) {
			owners[full(i.Entry.Key)] = s.Key
		}
	}
	all := make(map[string]kinds)
	for _, found := range doctor.Glance(evident, full, s.Endpoints()).Findings {
		for _, where := range found.Where {
			key, ok := owners[where]
			if !ok {
				continue
			}
			k := all[key]
			k.failing = k.failing || found.Severity == doctor.Error
			if !slices.Contains(k.names, string(found.Kind)) {
				k.names = append(k.names, string(found.Kind))
			}
			all[key] = k
		}
	}
	return all
}
