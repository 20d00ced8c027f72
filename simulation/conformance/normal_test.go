package conformance

import (
	"bytes"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// firstLease is the script's number for the first lease whose id etcd chose. Lesser ids are the script's own choice and
// stand for themselves.
const firstLease = 1000

// leases translates between the ids that a side chose for its leases and the numbers that a script knows them by.
type leases struct {
	ids     map[int64]int64 // by number
	numbers map[int64]int64 // by id
}

func newLeases() leases { return leases{ids: map[int64]int64{}, numbers: map[int64]int64{}} }

func (l leases) add(id int64) {
	number := firstLease + int64(len(l.ids))
	l.ids[number], l.numbers[id] = id, number
}

// id is the id of a lease, given its number.
func (l leases) id(number int64) int64 {
	if id, ok := l.ids[number]; ok {
		return id
	}
	return number
}

// number is the number of a lease, given its id.
func (l leases) number(id int64) int64 {
	if number, ok := l.numbers[id]; ok {
		return number
	}
	return id
}

// resolve returns a copy of a request with ids in place of numbers.
func (l leases) resolve(req proto.Message) proto.Message {
	req = proto.Clone(req)
	rewrite(req.ProtoReflect(), func(field string, n int64) int64 {
		if isLease(field) {
			return l.id(n)
		}
		return n
	})
	return req
}

// normal makes an answer comparable, in place: numbers in place of lease ids, 1 for what may be anything but
// nothing, and an order where etcd has none.
func (l leases) normal(msg proto.Message) proto.Message {
	rewrite(msg.ProtoReflect(), func(field string, n int64) int64 {
		switch {
		case isLease(field):
			return l.number(n)
		case n != 0 && (field == "cluster_id" || field == "member_id" || field == "memberID" || field == "raft_term"):
			return 1
		}
		return n
	})
	switch msg := msg.(type) {
	case *pb.LeaseTimeToLiveResponse:
		slices.SortFunc(msg.Keys, bytes.Compare)
	case *pb.LeaseLeasesResponse:
		slices.SortFunc(msg.Leases, func(a, b *pb.LeaseStatus) int { return int(a.ID - b.ID) })
	case *pb.AuthenticateResponse:
		msg.Token = ""
	}
	return msg
}

func isLease(field string) bool { return field == "lease" || field == "ID" }

// equal reports whether two normalised answers say the same. The seconds that a lease has left may differ by one, and by
// the time between the starts of the two sides, from which their leases count.
func equal(a, b proto.Message, apart time.Duration) bool {
	if a, ok := a.(*pb.LeaseTimeToLiveResponse); ok {
		if b, ok := b.(*pb.LeaseTimeToLiveResponse); ok && a.TTL > 0 && max(a.TTL-b.TTL, b.TTL-a.TTL) <= 1+int64(apart/time.Second) {
			b = proto.CloneOf(b)
			b.TTL = a.TTL
			return proto.Equal(a, b)
		}
	}
	return proto.Equal(a, b)
}

// rewrite puts what to returns in place of each integer in a message, by the name of its field.
func rewrite(m protoreflect.Message, to func(field string, n int64) int64) {
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Kind() == protoreflect.MessageKind && field.IsList():
			for i := range v.List().Len() {
				rewrite(v.List().Get(i).Message(), to)
			}
		case field.Kind() == protoreflect.MessageKind:
			rewrite(v.Message(), to)
		case field.IsList():
		case field.Kind() == protoreflect.Int64Kind:
			if n := to(string(field.Name()), v.Int()); n != v.Int() {
				m.Set(field, protoreflect.ValueOfInt64(n))
			}
		case field.Kind() == protoreflect.Uint64Kind:
			if n := to(string(field.Name()), int64(v.Uint())); n != int64(v.Uint()) {
				m.Set(field, protoreflect.ValueOfUint64(uint64(n)))
			}
		}
		return true
	})
}
