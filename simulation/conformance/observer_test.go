package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// TestObservers has the model's observers see what clients see of etcd.
func TestObservers(t *testing.T) {
	long(t)
	model := etcd.New(1)
	t.Cleanup(model.Close)
	p := newPair(t, dialReal(t, startEtcd(t), 0), dialModel(t, model, 0))
	p.seed = *first
	d := &drawer{Rand: rand.New(rand.NewPCG(p.seed, 3)), p: p}
	o := &observer{p: p, model: model}
	model.OnCommit(o.observe)
	all := p.real.watchAll()
	for range 5 * *steps {
		p.call(d.request())
	}
	end := p.mark()
	all.await("last change", func() bool { return all.seen >= end })
	o.compareChanges(all.take().events[0])
	o.compareState()
}

// observer keeps what the model tells of its changes.
type observer struct {
	p     *pair
	model *etcd.Cluster

	mu      sync.Mutex
	changes []etcd.Change
}

func (o *observer) observe(c etcd.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes = append(o.changes, c)
}

// compareChanges compares what the model's observers saw with etcd's events.
func (o *observer) compareChanges(events []proto.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var real, model []string
	for _, m := range events {
		e := m.(*mvccpb.Event)
		real = append(real, describeChange(e.Kv.Key, e.Kv.Value, e.Kv.Lease, e.Kv.ModRevision, e.Type == mvccpb.Event_DELETE))
	}
	for _, c := range o.changes {
		model = append(model, describeChange(c.Key, c.Value, o.p.model.leases.number(c.Lease), c.Revision, c.Delete))
		if c.Expired || c.At.IsZero() {
			o.p.t.Errorf("a change of a client: %+v", c)
		}
	}
	o.compare("changes", real, model)
}

func describeChange[T string | []byte](key, value T, lease, revision int64, deleted bool) string {
	return fmt.Sprintf("%d: %q = %q, lease %d, deleted %t", revision, key, value, lease, deleted)
}

// compare reports where two lists part.
func (o *observer) compare(what string, real, model []string) {
	for i := range max(len(real), len(model)) {
		if i >= len(real) || i >= len(model) || real[i] != model[i] {
			o.p.t.Errorf("%s differ from number %d on\n  etcd:  %q\n  model: %q", what, i, real[min(i, len(real)):], model[min(i, len(model)):])
			return
		}
	}
}

// compareState compares what the model says of itself with what etcd answers.
func (o *observer) compareState() {
	p := o.p
	var real, model []string
	all := &pb.RangeRequest{Key: []byte("\x00"), RangeEnd: []byte("\x00")}
	for _, kv := range p.real.must(all).(*pb.RangeResponse).Kvs {
		real = append(real, describeChange(kv.Key, kv.Value, kv.Lease, kv.ModRevision, false), fmt.Sprint(kv.CreateRevision, kv.Version))
		if e, ok := o.model.Get(string(kv.Key)); !ok || e.Mod != kv.ModRevision {
			p.t.Errorf("the model has %+v, %t for %s", e, ok, words(kv))
		}
	}
	for _, e := range o.model.Entries("") {
		model = append(model, describeChange(e.Key, e.Value, p.model.leases.number(e.Lease), e.Mod, false), fmt.Sprint(e.Create, e.Version))
	}
	o.compare("entries", real, model)
	if revision := o.model.Revision(); revision != p.now {
		p.t.Errorf("the model is at revision %d, etcd at %d", revision, p.now)
	}
	o.compareLeases()
}

func (o *observer) compareLeases() {
	p := o.p
	var real, model []string
	for _, l := range o.model.Leases() {
		slices.Sort(l.Keys)
		model = append(model, fmt.Sprintf("%d: %v %q", p.model.leases.number(l.ID), l.TTL, l.Keys))
	}
	for _, l := range p.real.must(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse).Leases {
		ttl := p.real.must(&pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true}).(*pb.LeaseTimeToLiveResponse)
		real = append(real, fmt.Sprintf("%d: %v %q", l.ID, time.Duration(ttl.GrantedTTL)*time.Second, ttl.Keys))
	}
	slices.Sort(real)
	slices.Sort(model)
	o.compare("leases", real, model)
}
