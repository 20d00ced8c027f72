package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

var (
	scripts = flag.Int("scripts", 20, "how many random `scripts` are played of each kind")
	first   = flag.Uint64("first", 1, "the `seed` of the first random script")
	steps   = flag.Int("steps", 200, "how many `steps` a random script has")
)

// long skips a test where only the shortest are to run. One random script then shows that the comparison works: the rest need
// to run only when the model changes, or etcd's version.
func long(t *testing.T) {
	if testing.Short() {
		t.Skip("the model and etcd are compared at length without -short")
	}
}

// seeds are those of the random scripts, one in so many of a kind that takes longer.
func seeds(oneIn int) iter.Seq[uint64] {
	n := (*scripts + oneIn - 1) / oneIn
	if testing.Short() {
		n = 1
	}
	return func(yield func(uint64) bool) {
		for i := 0; i < n && yield(*first+uint64(i)); i++ {
		}
	}
}

// TestScripts plays random scripts to etcd and to the model.
func TestScripts(t *testing.T) {
	model := etcd.New(1)
	t.Cleanup(model.Close)
	p := newPair(t, dialReal(t, startEtcd(t), 0), dialModel(t, model, 0))
	for seed := range seeds(1) {
		p.play(seed, *steps)
	}
	t.Log(p.summary())
}

// play draws a script from a seed and plays it to both. It begins and ends without keys, leases and history.
func (p *pair) play(seed uint64, steps int) {
	p.t.Helper()
	p.seed, p.history = seed, nil
	d := &drawer{Rand: rand.New(rand.NewPCG(seed, 0)), p: p}
	p.open(2)
	for range steps {
		d.step()
	}
	if p.alarmed {
		p.alarm(false)
	}
	p.clear()
	p.settle()
	p.shut()
	p.must(&pb.CompactionRequest{Revision: p.now})
	p.forgetLeases()
}

// clear deletes all keys and revokes all leases.
func (p *pair) clear() {
	p.t.Helper()
	for _, lease := range p.must(&pb.LeaseLeasesRequest{}).(*pb.LeaseLeasesResponse).Leases {
		p.must(&pb.LeaseRevokeRequest{ID: lease.ID})
	}
	p.must(&pb.DeleteRangeRequest{Key: []byte("\x00"), RangeEnd: []byte("\x00")})
}

func (p *pair) forgetLeases() {
	for _, s := range p.sides() {
		clear(s.leases.ids)
		clear(s.leases.numbers)
	}
}

// alarm raises or disarms the alarm that there is no space left.
func (p *pair) alarm(raised bool) {
	p.t.Helper()
	action := pb.AlarmRequest_DEACTIVATE
	if raised {
		action = pb.AlarmRequest_ACTIVATE
	}
	if p.call(&pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE}).err == nil {
		p.alarmed = raised
	}
}

// drawer draws what is asked.
type drawer struct {
	*rand.Rand
	p *pair

	secured bool // authentication is on: who may not change an alarm cannot mark how far it is while one is raised
}

// step draws a step and plays it.
func (d *drawer) step() {
	p := d.p
	switch n := d.IntN(1000); {
	case n < 820:
		p.call(d.request())
	case n < 850:
		p.compact(d.compaction())
	case n < 910:
		p.create(d.stream(), d.watch(0))
	case n < 917:
		p.create(d.stream(), d.watch(p.now+1+d.Int64N(3)))
	case n < 922: // several in the past, for they take long
		for range 1 + d.IntN(6) {
			p.create(d.stream(), d.watch(d.revision()))
		}
	case n < 955:
		stream := d.stream()
		p.cancel(stream, d.watchID(stream))
	case n < 975:
		p.progress(d.stream())
	case n < 985:
		p.settle()
	case n < 990:
		p.call(&pb.AlarmRequest{Action: pb.AlarmRequest_GET, Alarm: pb.AlarmType(d.IntN(2))})
	case n < 996 && !d.secured:
		p.alarm(true)
	default:
		p.call(d.request())
	}
	if p.alarmed && d.chance(12) {
		p.alarm(false)
	}
}

// request is any request of its own, save a compaction.
func (d *drawer) request() proto.Message {
	switch n := d.IntN(820); {
	case n < 260:
		return d.put()
	case n < 430:
		return d.readRange()
	case n < 500:
		return d.deleteRange()
	case n < 650:
		return d.txn()
	case n < 710:
		return &pb.LeaseGrantRequest{ID: d.newLease(), TTL: d.ttl()}
	case n < 735:
		return &pb.LeaseRevokeRequest{ID: d.lease()}
	case n < 770:
		return &pb.LeaseKeepAliveRequest{ID: d.lease()}
	case n < 805:
		return &pb.LeaseTimeToLiveRequest{ID: d.lease(), Keys: d.chance(2)}
	case n < 812:
		return &pb.LeaseLeasesRequest{}
	case n < 816:
		return d.bigTxn()
	default:
		return d.bigPut()
	}
}

// compact compacts after all watches have got what there was: whether one gets the past or hears that it is compacted is else
// a matter of time.
func (p *pair) compact(revision int64, physical bool) {
	p.t.Helper()
	p.settle()
	p.call(&pb.CompactionRequest{Revision: revision, Physical: physical})
}

// chance is true once in n times.
func (d *drawer) chance(n int) bool { return d.IntN(n) == 0 }

// pick is one of several.
func pick[T any](d *drawer, of ...T) T { return of[d.IntN(len(of))] }

var keys = []string{"a", "a/", "a/1", "a/2", "b", "b/1", "b0", "c", "c\x00", "\xff"}

func (d *drawer) key() []byte {
	if d.chance(150) {
		return nil
	}
	return []byte(pick(d, keys...))
}

// end is the end of a range that begins with a key: none, a prefix's, all that follow, or any key. With authentication
// on it is not before the key: whether etcd permits such a range hangs on how its tree of rights is balanced.
func (d *drawer) end(key []byte) []byte {
	end := d.anyEnd(key)
	if d.secured && len(end) > 0 && end[0] != 0 && bytes.Compare(end, key) <= 0 {
		return nil
	}
	return end
}

func (d *drawer) anyEnd(key []byte) []byte {
	switch d.IntN(6) {
	case 0, 1:
		return nil
	case 2:
		if end := slices.Clone(key); len(end) > 0 && end[len(end)-1] < 0xff {
			end[len(end)-1]++
			return end
		}
		return []byte{0}
	case 3:
		return []byte{0}
	default:
		return []byte(pick(d, keys...))
	}
}

func (d *drawer) value() []byte {
	if d.chance(8) {
		return nil
	}
	return fmt.Append(nil, "v", d.IntN(6))
}

// lease is a lease that there may be, by number.
func (d *drawer) lease() int64 {
	if auto := len(d.p.real.leases.ids); auto > 0 && !d.chance(3) {
		return firstLease + int64(auto-1-d.IntN(min(auto, 4))) // one of the last, for most others are revoked
	}
	return pick[int64](d, 0, 1, 2, 3, 4, 5, -1)
}

func (d *drawer) newLease() int64 {
	if d.chance(2) {
		return 0
	}
	return 1 + d.Int64N(4)
}

// ttl is long enough not to matter in a script.
func (d *drawer) ttl() int64 {
	if d.chance(20) {
		return pick[int64](d, 9_000_000_000, 9_000_000_001)
	}
	return 1000 + d.Int64N(1000)
}

// attach is the lease of a put: most have none.
func (d *drawer) attach() int64 {
	if d.chance(2) {
		return 0
	}
	return d.lease()
}

// revision is one at which something can be asked: often now, seldom impossible.
func (d *drawer) revision() int64 {
	now, compacted := d.p.now, d.p.compacted
	switch d.IntN(10) {
	case 0:
		return compacted - 1 + d.Int64N(3) // at the edge
	case 1:
		return now + 1 + d.Int64N(3)
	case 2:
		return now
	case 3:
		if d.chance(6) {
			return -1
		}
		return 0
	default:
		return compacted + d.Int64N(max(now-compacted, 1))
	}
}

// seldomRevision is a revision once in n times.
func (d *drawer) seldomRevision(n int) int64 {
	if d.chance(n) {
		return d.revision()
	}
	return 0
}

func (d *drawer) put() *pb.PutRequest {
	req := &pb.PutRequest{Key: d.key(), Value: d.value(), Lease: d.attach()}
	if d.chance(10) {
		req.IgnoreLease = true
		if !d.chance(6) {
			req.Lease = 0
		}
	}
	return req
}

func (d *drawer) readRange() *pb.RangeRequest {
	req := &pb.RangeRequest{Key: d.key(), Revision: d.seldomRevision(3), Serializable: d.chance(3)}
	req.RangeEnd = d.end(req.Key)
	req.KeysOnly, req.CountOnly = d.chance(4), d.chance(8)
	if d.chance(3) {
		req.Limit = pick[int64](d, -1, 1, 1, 2, 3, 5, 100)
	}
	if d.chance(3) {
		req.SortOrder = pb.RangeRequest_SortOrder(d.IntN(3))
		req.SortTarget = pb.RangeRequest_SortTarget(d.IntN(5))
		if d.chance(30) {
			req.SortTarget = 9
		}
	}
	req.MinModRevision, req.MaxModRevision = d.seldomRevision(12), d.seldomRevision(12)
	req.MinCreateRevision, req.MaxCreateRevision = d.seldomRevision(12), d.seldomRevision(12)
	return req
}

func (d *drawer) deleteRange() *pb.DeleteRangeRequest {
	req := &pb.DeleteRangeRequest{Key: d.key()}
	req.RangeEnd = d.end(req.Key)
	return req
}

func (d *drawer) compaction() (revision int64, physical bool) {
	if d.chance(3) {
		return d.revision(), d.chance(2)
	}
	return d.p.now - d.Int64N(10), d.chance(2)
}

// txn is a transaction.
func (d *drawer) txn() *pb.TxnRequest {
	req := &pb.TxnRequest{}
	for range d.IntN(3) {
		req.Compare = append(req.Compare, d.compare())
	}
	for range d.IntN(4) {
		req.Success = append(req.Success, d.op())
	}
	for range d.IntN(3) {
		req.Failure = append(req.Failure, d.op())
	}
	return req
}

func (d *drawer) op() *pb.RequestOp {
	switch n := d.IntN(20); {
	case n < 8:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: d.put()}}
	case n < 13:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: d.readRange()}}
	case n < 16:
		req := d.deleteRange()
		if string(req.RangeEnd) == "\x00" {
			req.RangeEnd = []byte("\xff\xff") // as far as all keys, but noticed
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: req}}
	case d.chance(10):
		return &pb.RequestOp{}
	default:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: d.key()}}}
	}
}

func (d *drawer) compare() *pb.Compare {
	c := &pb.Compare{
		Key: d.key(), Result: pb.Compare_CompareResult(d.IntN(4)), Target: pb.Compare_CompareTarget(d.IntN(5)),
	}
	if d.chance(3) {
		c.RangeEnd = d.end(c.Key)
	}
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: d.Int64N(4)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: d.revision()}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: d.revision()}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: d.value()}
	case pb.Compare_LEASE:
		lease := d.attach()
		if lease >= firstLease { // which of the ids that etcd chooses is the greater hangs on its member, and is not compared
			c.Result = pick(d, pb.Compare_EQUAL, pb.Compare_NOT_EQUAL)
		}
		c.TargetUnion = &pb.Compare_Lease{Lease: lease}
	}
	if d.chance(20) {
		c.TargetUnion = nil
	}
	return c
}

// bigTxn is a transaction about as long as is allowed.
func (d *drawer) bigTxn() *pb.TxnRequest {
	req := &pb.TxnRequest{}
	for i := range 127 + d.IntN(3) {
		key := fmt.Appendf(nil, "big/%03d", i)
		switch {
		case d.chance(2):
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: key},
			}})
		default:
			req.Success = append(req.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
				RequestDeleteRange: &pb.DeleteRangeRequest{Key: key},
			}})
		}
	}
	return req
}

// bigPut is a put about as large as is allowed, or larger than gRPC takes.
func (d *drawer) bigPut() *pb.PutRequest {
	const most = 1536 * 1024
	size := pick(d, most-100, most, most+512*1024, most+512*1024+100)
	return &pb.PutRequest{Key: d.key(), Value: bytes.Repeat([]byte("v"), size)}
}

func (d *drawer) stream() int { return d.IntN(len(d.p.alive)) }

func (d *drawer) watch(start int64) *pb.WatchCreateRequest {
	req := &pb.WatchCreateRequest{Key: d.key(), StartRevision: start}
	if len(req.Key) > 0 { // else it is the key \x00, and a range from there on has the sentinel
		req.RangeEnd = d.end(req.Key)
	}
	return req
}

// watchID is one of the stream's watches, save the first, or one that there is not.
func (d *drawer) watchID(stream int) int64 {
	if d.chance(8) {
		return 1 + d.Int64N(8)
	}
	var ids []int64
	for id := range d.p.alive[stream] {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return 77
	}
	slices.Sort(ids)
	return pick(d, ids...)
}
