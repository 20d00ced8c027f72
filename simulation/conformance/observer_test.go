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
			return outcome(model.Put(key, string(value), o.id(lease)))
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
		return &pb.LeaseRevokeRequest{ID: lease}, func() string { return outcome(model.Revoke(o.id(lease))) }
	}
}

func outcome(err error) string {
	if err != nil {
		return "refused"
	}
	return "done"
}

// id is the model's id of a lease.
func (o *operator) id(lease int64) int64 {
	if id, ok := o.p.model.leases.ids[lease]; ok {
		return id
	}
	return lease
}

// compareChanges compares what the model's observers saw with etcd's events.
func (o *operator) compareChanges(events []proto.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var real, model []string
	for _, m := range events {
		e := m.(*mvccpb.Event)
		real = append(real, describeChange(string(e.Kv.Key), string(e.Kv.Value), e.Kv.Lease, e.Kv.ModRevision, e.Type == mvccpb.Event_DELETE))
	}
	for _, c := range o.changes {
		lease := c.Lease
		if number, ok := o.p.model.leases.numbers[lease]; ok {
			lease = number
		}
		model = append(model, describeChange(c.Key, c.Value, lease, c.Revision, c.Delete))
		if c.Expired || c.At.IsZero() {
			o.p.t.Errorf("a change of an operator or a client: %+v", c)
		}
	}
	if i := firstDifference(real, model); i >= 0 {
		o.p.t.Errorf("change %d of %d and %d\n  etcd:  %s\n  model: %s", i, len(real), len(model), at(real, i), at(model, i))
	}
}

func describeChange(key, value string, lease, revision int64, deleted bool) string {
	return fmt.Sprintf("%d: %q = %q, lease %d, deleted %t", revision, key, value, lease, deleted)
}

// firstDifference is where two lists part, -1 if they do not.
func firstDifference(a, b []string) int {
	for i := range max(len(a), len(b)) {
		if at(a, i) != at(b, i) {
			return i
		}
	}
	return -1
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "nothing"
}

// compareState compares what the model says of itself with what etcd answers.
func (o *operator) compareState() {
	p := o.p
	var real, model []string
	all := &pb.RangeRequest{Key: []byte("\x00"), RangeEnd: []byte("\x00")}
	for _, kv := range p.real.must(all).(*pb.RangeResponse).Kvs {
		real = append(real, describeChange(string(kv.Key), string(kv.Value), kv.Lease, kv.ModRevision, false))
		real = append(real, fmt.Sprint(kv.CreateRevision, kv.Version))
		if e, ok := o.model.Get(string(kv.Key)); !ok || e.Mod != kv.ModRevision {
			p.t.Errorf("the model has %+v, %t for %s", e, ok, words(kv))
		}
	}
	for _, e := range o.model.Entries("") {
		lease := e.Lease
		if number, ok := p.model.leases.numbers[lease]; ok {
			lease = number
		}
		model = append(model, describeChange(e.Key, e.Value, lease, e.Mod, false), fmt.Sprint(e.Create, e.Version))
	}
	if i := firstDifference(real, model); i >= 0 {
		p.t.Errorf("entries\n  etcd:  %s\n  model: %s", at(real, i), at(model, i))
	}
	if revision := o.model.Revision(); revision != p.now {
		p.t.Errorf("the model is at revision %d, etcd at %d", revision, p.now)
	}
	o.compareLeases()
}

func (o *operator) compareLeases() {
	p := o.p
	leases := map[int64]string{}
	for _, l := range o.model.Leases() {
		slices.Sort(l.Keys)
		number := l.ID
		if n, ok := p.model.leases.numbers[l.ID]; ok {
			number = n
		}
		leases[number] = fmt.Sprintf("%v %q", l.TTL, l.Keys)
	}
	for _, l := range p.real.must(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse).Leases {
		ttl := p.real.must(&pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true}).(*pb.LeaseTimeToLiveResponse)
		real := fmt.Sprintf("%v %q", time.Duration(ttl.GrantedTTL)*time.Second, ttl.Keys)
		if leases[l.ID] != real {
			p.t.Errorf("lease %d\n  etcd:  %s\n  model: %s", l.ID, real, leases[l.ID])
		}
		delete(leases, l.ID)
	}
	if len(leases) > 0 {
		p.t.Errorf("the model has leases that etcd has not: %v", leases)
	}
}
