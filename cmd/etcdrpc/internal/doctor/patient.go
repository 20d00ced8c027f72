package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// patient is what doctor looks at, and what it found.
type patient struct {
	*Options
	full        func(key string) string // a key as etcd has it
	services    []*survey.Service       // sorted by key
	leases      map[int64]lease
	etcd        []string         // hosts of etcd
	exposed     []string         // hosts that the password is sent to without TLS
	alone       bool             // everything is on one host
	now         time.Time        // zero: times are not looked at
	probed      bool             // the addresses were connected to
	dead        map[string]error // addresses that do not answer
	health      map[spot]answer  // of the instances that were asked
	unreachable map[string]int   // the findings of dead addresses
	findings    []Finding
}

// read reads the service at a key or, where there is none, those whose keys begin with it.
func (p *patient) read(ctx context.Context, s *store.Store, key string) (err error) {
	n := &store.Snapshot{}
	if endpoint.CheckKey(key) == nil {
		n, err = s.At(ctx, key)
	}
	if err == nil && (len(n.Services) == 0 || isNothing(n.Services[0])) {
		n, err = s.Under(ctx, key)
		n = keepEvident(n)
	}
	switch {
	case errors.Is(err, store.ErrDenied):
		p.report(KindPermission, err.Error()+", so no service can be found", fmt.Sprintf("look at a KEY that this user may read, or: etcdctl role grant-permission --prefix ROLE read %s", output.Shell(s.Full(key))))
		return nil
	case err != nil:
		return err
	}
	p.services = n.Services
	if key != "" && len(p.services) == 0 {
		p.report(KindEmpty, "nothing is registered there",
			"if servers of it are running, compare their key and namespace with these, and look at their logs; etcdrpc ls shows what there is", key)
	}
	return nil
}

func keepEvident(n *store.Snapshot) *store.Snapshot {
	if n != nil {
		n.Services = slices.DeleteFunc(n.Services, func(s *survey.Service) bool { return !s.Evident() })
	}
	return n
}

// addresses returns all that are to be connected to, each once: those of instances, and of entries that only a person can
// read and that no lease tells to be alive.
func (p *patient) addresses() []string {
	set := make(map[string]bool)
	for _, s := range p.services {
		for _, i := range s.Instances {
			if !i.Leaving() {
				set[i.Addr] = true
			}
		}
		for _, i := range s.Malformed {
			if addr := addressOf(&i); i.Entry.Lease == 0 && addr != "" {
				set[addr] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(set)), p.isMisleading)
}
