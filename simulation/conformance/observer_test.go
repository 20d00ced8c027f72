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
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// TestOperator has the model's operator do what clients ask of etcd, and its observers see what clients see of etcd.
func TestOperator(t *testing.T) {
	long(t)
	model := etcd.New(1)
	t.Cleanup(model.Close)
	p := newPair(t, dialReal(t, startEtcd(t), 0), dialModel(t, model, 0))
	p.seed = *first
	o := &operator{drawer: &drawer{Rand: rand.New(rand.NewPCG(p.seed, 3)), p: p}, model: model}
	model.OnCommit(o.observe)
	all := p.real.watchAll()
	for range 5 * *steps {
		if o.chance(2) {
			p.call(o.request())
		} else {
			o.operate()
		}
	}
	end := p.mark()
	all.await("last change", func() bool { return all.seen >= end })
	o.compareChanges(all.take().events[0])
	o.compareState()
}

// operator draws what an operator does.
type operator struct {
	*drawer
	model *etcd.Cluster

	mu      sync.Mutex
	changes []etcd.Change
}

func (o *operator) observe(c etcd.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes = append(o.changes, c)
}

// operate draws something and has it done to both, in etcd by a client.
func (o *operator) operate() {
	p := o.p
	p.t.Helper()
	req, do := o.deed()
	p.note("the operator: " + words(req))
	a := p.real.call(req)
	p.now = max(p.now, a.revision())
	real, model := "done", do()
	if a.err != nil {
		real = "refused"
	} else if resp, ok := a.msg.(*pb.DeleteRangeResponse); ok {
		real = fmt.Sprint(resp.Deleted)
	}
	if real != model {
		p.differ(real, model)
	}
}

// deed draws what a client does and how the model's operator does the same, and with what result.
func (o *operator) deed() (req proto.Message, do func() string) {
	model, lease := o.model, max(o.lease(), 0)
	key, value := pick(o.drawer, keys...), o.value()
	switch n := o.IntN(8); {
	case n < 2:
		return &pb.PutRequest{Key: []byte(key), Value: value, Lease: lease}, func() string {
			return outcome(model.Put(key, string(value), o.p.model.leases.id(lease)))
		}
	case n == 2:
		return &pb.PutRequest{Key: []byte(key), Value: value, IgnoreLease: true}, func() string {
			return outcome(model.Put(key, string(value), etcd.SameLease))
		}
	case n == 3:
		return &pb.DeleteRangeRequest{Key: []byte(key)}, func() string {
			if model.Delete(key) {
				return "1"
			}
			return "0"
		}
	case n == 4:
		end := []byte(clientv3.GetPrefixRangeEnd(key))
		return &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: end}, func() string {
			return fmt.Sprint(model.DeletePrefix(key))
		}
	case n == 5:
		return &pb.LeaseGrantRequest{TTL: 1234}, func() string {
			o.p.model.leases.add(model.Grant(1234 * time.Second))
			return "done"
		}
	case n == 6 && o.p.now > o.p.compacted:
		o.p.compacted = o.p.now
		return &pb.CompactionRequest{Revision: o.p.now}, func() string {
			model.Compact()
			return "done"
		}
	default:
		return &pb.LeaseRevokeRequest{ID: lease}, func() string { return outcome(model.Revoke(o.p.model.leases.id(lease))) }
	}
}

func outcome(err error) string {
	if err != nil {
		return "refused"
	}
	return "done"
}

// compareChanges compares what the model's observers saw with etcd's events.
func (o *operator) compareChanges(events []proto.Message) {
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
			o.p.t.Errorf("a change of an operator or a client: %+v", c)
		}
	}
	o.compare("changes", real, model)
}

func describeChange[T string | []byte](key, value T, lease, revision int64, deleted bool) string {
	return fmt.Sprintf("%d: %q = %q, lease %d, deleted %t", revision, key, value, lease, deleted)
}

// compare reports where two lists part.
func (o *operator) compare(what string, real, model []string) {
	for i := range max(len(real), len(model)) {
		if i >= len(real) || i >= len(model) || real[i] != model[i] {
			o.p.t.Errorf("%s differ from number %d on\n  etcd:  %q\n  model: %q", what, i, real[min(i, len(real)):], model[min(i, len(model)):])
			return
		}
	}
}

// compareState compares what the model says of itself with what etcd answers.
func (o *operator) compareState() {
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

func (o *operator) compareLeases() {
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
