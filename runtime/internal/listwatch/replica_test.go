package listwatch

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newReplica() (*replica[string], *[]string) {
	malformed := &[]string{}
	return &replica[string]{set: newSet(malformed)}, malformed
}

func header(cluster, term, revision int) *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{ClusterId: uint64(cluster), RaftTerm: uint64(term), Revision: int64(revision)}
}

func list(revision int, kvs ...*mvccpb.KeyValue) *clientv3.GetResponse {
	return &clientv3.GetResponse{Header: header(1, 1, revision), Kvs: kvs}
}

// whole returns a list of one page.
func whole(r *replica[string], resp *clientv3.GetResponse) *listing[string] {
	var l listing[string]
	if more, err := l.take(resp, &r.set); more || err != nil {
		panic("not one page")
	}
	return &l
}

func kv(key, value string, modified int) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: 1, ModRevision: int64(modified)}
}

func put(key, value string, modified int) *clientv3.Event {
	return &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv(key, value, modified)}
}

func del(key string, modified int) *clientv3.Event {
	return &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: kv(key, "", modified)}
}

func events(revision int, events ...*clientv3.Event) *clientv3.WatchResponse {
	resp := watchAnswer(header(1, 1, revision))
	resp.Events = events
	return resp
}

// watchAnswer returns an answer of a watch, with a header that may be nil. In etcd's client up to 3.6 the answer holds a
// struct, from 3.7 on a pointer.
func watchAnswer(h *etcdserverpb.ResponseHeader) *clientv3.WatchResponse {
	resp := &clientv3.WatchResponse{}
	switch to := any(&resp.Header).(type) {
	case *etcdserverpb.ResponseHeader:
		to.ClusterId, to.MemberId, to.Revision, to.RaftTerm = h.GetClusterId(), h.GetMemberId(), h.GetRevision(), h.GetRaftTerm()
	case **etcdserverpb.ResponseHeader:
		*to = h
	}
	return resp
}

func TestReplicaFollows(t *testing.T) {
	r, _ := newReplica()
	if r.snapshot() != nil {
		t.Error("there is a snapshot before the first list")
	}
	if !r.listed(whole(r, list(10)), false) {
		t.Error("a first list, even an empty one, is news")
	}
	r.watching(start)
	steps := []struct {
		name    string
		resp    *clientv3.WatchResponse
		changed bool
		want    string
	}{
		{"created", events(10), false, ""},
		{"put", events(11, put("a", "1", 11)), true, "a=1"},
		{"progress", events(15), false, "a=1"},
		{"from a proxy, which leaves headers empty", watchAnswer(header(0, 0, 0)), false, "a=1"},
		{"the same again", events(16, put("a", "1", 16)), false, "a=1"},
		{"a transaction", events(17, put("b", "1", 17), del("a", 17), put("c", "1", 17)), true, "b=1 c=1"},
		{"older than what is known", events(17, put("b", "0", 9)), false, "b=1 c=1"},
		{"deleted and put", events(19, del("b", 18), put("b", "2", 19)), true, "b=2 c=1"},
		{"a key that is not there", events(20, del("x", 20)), false, "b=2 c=1"},
		{"several revisions at once, with more to come", events(30, put("d", "1", 21), put("d", "2", 22)), true, "b=2 c=1 d=2"},
		{"the rest of them", events(30, del("d", 23)), true, "b=2 c=1"},
	}
	for _, step := range steps {
		changed, err := r.heard(step.resp, start)
		if err != nil || changed != step.changed {
			t.Fatalf("%s: changed %v, error %v, want changed %v", step.name, changed, err, step.changed)
		}
		if got := text(r.snapshot().Items); got != step.want {
			t.Fatalf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

func TestReplicaListsAgain(t *testing.T) {
	compacted, canceled := watchAnswer(header(1, 1, 50)), watchAnswer(header(1, 1, 50))
	compacted.CompactRevision, canceled.Canceled = 40, true
	for _, tt := range []struct {
		name string
		resp *clientv3.WatchResponse
		want error
	}{
		{"compacted", compacted, rpctypes.ErrCompacted},
		{"canceled", canceled, rpctypes.ErrFutureRev},
		{"another cluster", watchAnswer(header(2, 1, 50)), errCluster},
	} {
		r, _ := newReplica()
		r.listed(whole(r, list(10, kv("a", "1", 5))), false)
		r.watching(start)
		if changed, err := r.heard(tt.resp, start); !errors.Is(err, tt.want) || changed {
			t.Errorf("%s: changed %v, error %v, want %v", tt.name, changed, err, tt.want)
		}
		if got := text(r.snapshot().Items); got != "a=1" {
			t.Errorf("%s: what was known became %q", tt.name, got)
		}
	}
}

func TestReplicaNoticesAReplacedHistory(t *testing.T) {
	for name, behind := range map[string]*etcdserverpb.ResponseHeader{
		"lower revision": header(1, 1, 5),
		"lower term":     header(1, 0, 100),
	} {
		r, _ := newReplica()
		r.listed(whole(r, list(10, kv("a", "1", 5))), false)
		r.watching(start)
		answer := watchAnswer(behind)
		if _, err := r.heard(answer, start); err != nil {
			t.Fatalf("%s, once: %v; a member may lag", name, err)
		}
		if at, _ := r.due(start); at.Sub(start) != lagAllowed {
			t.Errorf("%s: a sign of life is due %v later, want as soon as lag is no excuse", name, at.Sub(start))
		}
		if _, err := r.heard(answer, start.Add(lagAllowed)); !errors.Is(err, errReplaced) {
			t.Errorf("%s, still after %v: %v, want %v", name, lagAllowed, err, errReplaced)
		}
		// The list that follows is the truth, lower as it is.
		if !r.listed(whole(r, list(5, kv("b", "1", 3))), false) || text(r.snapshot().Items) != "b=1" {
			t.Errorf("%s: after the list: %q, want b=1", name, text(r.snapshot().Items))
		}
		if _, err := r.heard(events(6, put("c", "1", 6)), start.Add(time.Hour)); err != nil {
			t.Errorf("%s: the new history: %v", name, err)
		}
	}
}

func TestReplicaForgivesALaggingMember(t *testing.T) {
	r, _ := newReplica()
	r.listed(whole(r, list(10)), false)
	r.watching(start)
	for i, revision := range []int{9, 10, 9, 11} {
		now := start.Add(time.Duration(i) * lagAllowed / 2)
		if _, err := r.heard(events(revision), now); err != nil {
			t.Errorf("answer %d, at revision %d: %v", i, revision, err)
		}
	}
}

func TestReplicaProbed(t *testing.T) {
	create := put("b", "bad", 11)
	create.Kv.CreateRevision = 11
	for _, tt := range []struct {
		name           string
		header         *etcdserverpb.ResponseHeader
		count, changed int // keys in the range, and the revision of the last change
		want           error
	}{
		{"nothing missed", header(1, 1, 50), 2, 13, nil},
		{"a deletion missed", header(1, 1, 50), 1, 13, errMissed},
		{"a put missed", header(1, 1, 50), 2, 14, errMissed},
		{"wiped", header(1, 1, 3), 0, 0, errReplaced},
		{"another cluster", header(2, 1, 50), 2, 13, errCluster},
	} {
		r, _ := newReplica()
		r.listed(whole(r, list(10, kv("a", "1", 5), kv("c", "other", 5))), false)
		r.watching(start)
		// b comes, though malformed, and changes, c goes.
		if _, err := r.heard(events(13, create, put("b", "1", 12), del("c", 13)), start); err != nil {
			t.Fatal(err)
		}
		resp := &clientv3.GetResponse{Header: tt.header, Count: int64(tt.count)}
		if tt.changed > 0 {
			resp.Kvs = []*mvccpb.KeyValue{kv("b", "", tt.changed)}
		}
		if err := r.probed(resp, 0, start); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestReplicaProvisional(t *testing.T) {
	r, _ := newReplica()
	if !r.listed(whole(r, list(10, kv("a", "1", 5))), true) || !r.snapshot().Provisional {
		t.Error("a member's own view is not marked")
	}
	if !r.listed(whole(r, list(10, kv("a", "1", 5))), false) || r.snapshot().Provisional {
		t.Error("that the view was confirmed is not news")
	}
	if r.listed(whole(r, list(11, kv("a", "1", 5))), false) {
		t.Error("an equal list is news")
	}
	other := list(11, kv("a", "1", 5))
	other.Header.ClusterId = 2
	if r.snapshot().Cluster != 1 || !r.listed(whole(r, other), false) || r.snapshot().Cluster != 2 {
		t.Error("that it is another cluster's is not news")
	}
}

func TestReplicaVerifies(t *testing.T) {
	r, _ := newReplica()
	r.listed(whole(r, list(10, kv("a", "1", 9))), false)
	r.watching(start)
	for _, member := range []uint64{7, 7, 8} {
		resp := events(10)
		resp.Header.MemberId = member
		if _, err := r.heard(resp, start); err != nil || r.moved != (member == 8) {
			t.Errorf("after an answer of member %d: moved %v, error %v", member, r.moved, err)
		}
	}
	if changed, err := r.verified(whole(r, list(10, kv("a", "1", 9)))); changed || err != nil || r.moved {
		t.Errorf("the same: changed %v, error %v, moved %v", changed, err, r.moved)
	}
	changed, err := r.verified(whole(r, list(12, kv("b", "1", 3))))
	if got := text(r.snapshot().Items); !changed || err != nil || got != "b=1" {
		t.Errorf("another history, as long: changed %v, error %v, %q", changed, err, got)
	}
	if _, err := r.heard(events(11, put("a", "2", 11)), start); err != nil || text(r.snapshot().Items) != "b=1" {
		t.Errorf("what the list had already: error %v, %q", err, text(r.snapshot().Items))
	}
	if _, err := r.verified(whole(r, list(11, kv("a", "1", 9)))); !errors.Is(err, errReplaced) {
		t.Errorf("a shorter history: %v", err)
	}
	other := list(20)
	other.Header.ClusterId = 2
	if _, err := r.verified(whole(r, other)); !errors.Is(err, errCluster) {
		t.Errorf("another cluster: %v", err)
	}
}

// TestReplicaComparesWithEtcd takes where etcd is for a sign of life only while etcd is where the replica is.
func TestReplicaComparesWithEtcd(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header *etcdserverpb.ResponseHeader
		latest int64 // the highest revision that a watch of the stream began at
		probe  bool
		by     call // how the next sign of life is asked for
		want   error
	}{
		{"where it was", header(1, 1, 10), 11, false, callHead, nil},
		{"further on", header(1, 2, 11), 11, false, callProgress, nil},
		{"further on, but not where each watch began", header(1, 2, 11), 12, true, 0, nil},
		{"restored", header(1, 1, 9), 11, false, 0, errReplaced},
		{"another cluster", header(2, 1, 10), 11, false, 0, errCluster},
	} {
		r, _ := newReplica()
		r.listed(whole(r, list(10)), false)
		r.watching(start)
		later := start.Add(time.Minute)
		probe, err := r.headed(head{tt.header, later}, tt.latest, later)
		if probe != tt.probe || !errors.Is(err, tt.want) {
			t.Errorf("%s: probe %v, error %v, want %v, %v", tt.name, probe, err, tt.probe, tt.want)
		}
		if _, by := r.due(later); !probe && err == nil && by != tt.by {
			t.Errorf("%s: the next sign of life is asked for by call %d, want %d", tt.name, by, tt.by)
		}
	}
}

// TestReplicaIsWhereAProbeFoundEtcd has a probe that finds nothing missed tell where etcd is.
func TestReplicaIsWhereAProbeFoundEtcd(t *testing.T) {
	r, _ := newReplica()
	r.listed(whole(r, list(10)), false)
	r.watching(start)
	if err := r.probed(&clientv3.GetResponse{Header: header(1, 1, 20)}, 21, start); err != nil {
		t.Fatal(err)
	}
	if probe, err := r.headed(head{header(1, 1, 20), start}, 21, start); probe || err != nil {
		t.Errorf("etcd has moved on once more: %v, %v", probe, err)
	}
}
