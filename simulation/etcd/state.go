package etcd

import (
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// state is what the members of a cluster agree on. Its transitions take the instant at which they are committed and
// return the answer; what they changed waits in commits for whoever carries it to the members and to observers.
type state struct {
	store   store
	lessor  lessor
	auth    auth
	alarms  []*pb.AlarmMember
	nextID  int64 // of a lease
	commits []commit
}

// firstLease is what the ids of leases count from: etcd's have as many digits.
const firstLease = 0x70cc9e1a00000000

// commit is the changes of one revision.
type commit struct {
	events  []*mvccpb.Event
	client  string // "" for an operator or an expiry
	expired bool
}

func newState(now time.Time) state {
	return state{store: newStore(), lessor: newLessor(now), nextID: firstLease}
}

// clone returns a copy that shares what never changes, without what is not committed to disk: tokens.
func (s *state) clone() state {
	c := *s
	c.store, c.lessor, c.auth, c.commits = s.store.clone(), s.lessor.clone(), s.auth.clone(), nil
	c.alarms = slices.Clone(s.alarms)
	return c
}

// requester is who asks: a host, and a user where auth is on.
type requester struct {
	client string
	user   string // "" without credentials
	rights uint64 // the revision of the rights when the request came in
	root   bool   // the cluster itself, or its operator
}

// whole is the view of a member that has applied all.
func (s *state) whole() view { return view{&s.store, s.store.rev, s.store.compacted} }

// header returns the header of an answer to a write.
func (s *state) header() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: s.store.rev} }

// write carries out f as one revision.
func (s *state) write(who requester, expired bool, f func(*writer)) {
	w := &writer{s: &s.store}
	f(w)
	w.end()
	if len(w.changes) > 0 {
		s.commits = append(s.commits, commit{w.changes, who.client, expired})
	}
}

// put applies a put request.
func (s *state) put(who requester, r *pb.PutRequest) (*pb.PutResponse, error) {
	if s.nospace() {
		return nil, errNoSpace
	}
	if err := s.mayPut(who, r); err != nil {
		return nil, err
	}
	if err := s.checkPut(r); err != nil {
		return nil, err
	}
	var resp *pb.PutResponse
	s.write(who, false, func(w *writer) { resp = s.doPut(w, r) })
	return resp, nil
}

// checkPut returns an error if a put cannot be carried out.
func (s *state) checkPut(r *pb.PutRequest) error {
	if r.Lease != 0 && s.lessor.leases[r.Lease] == nil {
		return errLeaseNotFound
	}
	if r.IgnoreLease && s.store.get(string(r.Key), s.store.rev) == nil {
		return errKeyNotFound
	}
	return nil
}

func (s *state) doPut(w *writer, r *pb.PutRequest) *pb.PutResponse {
	key, id := string(r.Key), r.Lease
	prev := s.store.get(key, s.store.rev+1)
	if r.IgnoreLease {
		id = prev.GetLease()
	}
	w.put(key, r.Value, id)
	s.lessor.move(key, prev.GetLease(), id)
	return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: w.rev()}}
}

// deleteRange applies a delete request.
func (s *state) deleteRange(who requester, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	if err := s.mayDelete(who, r); err != nil {
		return nil, err
	}
	var resp *pb.DeleteRangeResponse
	s.write(who, false, func(w *writer) { resp = s.doDelete(w, r) })
	return resp, nil
}

func (s *state) doDelete(w *writer, r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	gone := w.delete(spanOf(r.Key, r.RangeEnd))
	for _, kv := range gone {
		s.lessor.move(string(kv.Key), kv.Lease, 0)
	}
	return &pb.DeleteRangeResponse{Header: &pb.ResponseHeader{Revision: w.rev()}, Deleted: int64(len(gone))}
}

// compact applies a compaction. Members drop the history once all of them have applied it.
func (s *state) compact(rev int64) (*pb.CompactionResponse, error) {
	switch {
	case rev <= s.store.compacted:
		return nil, errCompacted
	case rev > s.store.rev:
		return nil, errFutureRev
	}
	s.store.compacted = rev
	return &pb.CompactionResponse{Header: s.header()}, nil
}

// grant applies a lease grant; id 0 has one chosen.
func (s *state) grant(now time.Time, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	if s.nospace() {
		return nil, errNoSpace
	}
	id := r.ID
	for id == 0 {
		s.nextID++
		if s.lessor.leases[s.nextID] == nil {
			id = s.nextID
		}
	}
	l, err := s.lessor.grant(now, id, r.TTL)
	if err != nil {
		return nil, err
	}
	return &pb.LeaseGrantResponse{Header: s.header(), ID: l.id, TTL: l.ttl}, nil
}

// revoke applies the end of a lease: its keys go in one revision.
func (s *state) revoke(who requester, id int64, expired bool) (*pb.LeaseRevokeResponse, error) {
	if err := s.mayChangeLease(who, id); err != nil {
		return nil, err
	}
	l := s.lessor.leases[id]
	if l == nil {
		return nil, errLeaseNotFound
	}
	s.write(who, expired, func(w *writer) {
		for _, key := range l.sortedKeys() {
			w.delete(span{from: key})
		}
	})
	delete(s.lessor.leases, id)
	return &pb.LeaseRevokeResponse{Header: s.header()}, nil
}

// expire revokes what has expired and reports whether anything had.
func (s *state) expire(now time.Time) bool {
	gone := s.lessor.expired(now)
	for _, l := range gone {
		if _, err := s.revoke(requester{root: true}, l.id, true); err != nil {
			panic("etcd: an expired lease cannot be revoked: " + err.Error())
		}
	}
	return len(gone) > 0
}

// nospace reports whether the alarm is raised.
func (s *state) nospace() bool {
	return slices.ContainsFunc(s.alarms, func(a *pb.AlarmMember) bool { return a.Alarm == pb.AlarmType_NOSPACE })
}

// alarm applies an alarm request.
func (s *state) alarm(r *pb.AlarmRequest) *pb.AlarmResponse {
	resp := &pb.AlarmResponse{}
	is := func(a *pb.AlarmMember) bool { return a.MemberID == r.MemberID && a.Alarm == r.Alarm }
	switch r.Action {
	case pb.AlarmRequest_GET:
		for _, a := range s.alarms {
			if r.Alarm == pb.AlarmType_NONE || r.Alarm == a.Alarm {
				resp.Alarms = append(resp.Alarms, a)
			}
		}
	case pb.AlarmRequest_ACTIVATE:
		if r.Alarm == pb.AlarmType_NONE {
			break
		}
		if !slices.ContainsFunc(s.alarms, is) {
			s.alarms = append(s.alarms, &pb.AlarmMember{MemberID: r.MemberID, Alarm: r.Alarm})
		}
		resp.Alarms = []*pb.AlarmMember{{MemberID: r.MemberID, Alarm: r.Alarm}}
	case pb.AlarmRequest_DEACTIVATE:
		if i := slices.IndexFunc(s.alarms, is); i >= 0 {
			resp.Alarms = []*pb.AlarmMember{s.alarms[i]}
			s.alarms = slices.Delete(s.alarms, i, i+1)
		}
	}
	return resp
}
