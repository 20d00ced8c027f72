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

func newMachine() (*machine[string], *[]string) {
	malformed := &[]string{}
	return &machine[string]{set: newSet(malformed)}, malformed
}

func header(cluster, term, revision int) *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{ClusterId: uint64(cluster), RaftTerm: uint64(term), Revision: int64(revision)}
}

func list(revision int, kvs ...*mvccpb.KeyValue) *clientv3.GetResponse {
	return &clientv3.GetResponse{Header: header(1, 1, revision), Kvs: kvs}
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
	return &clientv3.WatchResponse{Header: header(1, 1, revision), Events: events}
}

func TestMachineFollows(t *testing.T) {
	m, _ := newMachine()
	if m.snapshot() != nil {
		t.Error("there is a snapshot before the first list")
	}
	if !m.listed(list(10), false) {
		t.Error("a first list, even an empty one, is news")
	}
	m.watching(start)
	steps := []struct {
		name    string
		resp    *clientv3.WatchResponse
		changed bool
		want    string
	}{
		{"created", events(10), false, ""},
		{"put", events(11, put("a", "1", 11)), true, "a=1"},
		{"progress", events(15), false, "a=1"},
		{"the same again", events(16, put("a", "1", 16)), false, "a=1"},
		{"a transaction", events(17, put("b", "1", 17), del("a", 17), put("c", "1", 17)), true, "b=1 c=1"},
		{"older than what is known", events(17, put("b", "0", 9)), false, "b=1 c=1"},
		{"deleted and put", events(19, del("b", 18), put("b", "2", 19)), true, "b=2 c=1"},
		{"a key that is not there", events(20, del("x", 20)), false, "b=2 c=1"},
		{"several revisions at once, with more to come", events(30, put("d", "1", 21), put("d", "2", 22)), true, "b=2 c=1 d=2"},
		{"the rest of them", events(30, del("d", 23)), true, "b=2 c=1"},
	}
	for _, step := range steps {
		changed, err := m.heard(step.resp, start)
		if err != nil || changed != step.changed {
			t.Fatalf("%s: changed %v, error %v, want changed %v", step.name, changed, err, step.changed)
		}
		if got := text(m.snapshot().Items); got != step.want {
			t.Fatalf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

func TestMachineListsAgain(t *testing.T) {
	for _, tt := range []struct {
		name string
		resp *clientv3.WatchResponse
		want error
	}{
		{"compacted", &clientv3.WatchResponse{Header: header(1, 1, 50), CompactRevision: 40}, rpctypes.ErrCompacted},
		{"canceled", &clientv3.WatchResponse{Header: header(1, 1, 50), Canceled: true}, rpctypes.ErrFutureRev},
		{"another cluster", &clientv3.WatchResponse{Header: header(2, 1, 50)}, errCluster},
		{"closing, without a header", &clientv3.WatchResponse{}, errCluster},
	} {
		m, _ := newMachine()
		m.listed(list(10, kv("a", "1", 5)), false)
		m.watching(start)
		if changed, err := m.heard(tt.resp, start); !errors.Is(err, tt.want) || changed {
			t.Errorf("%s: changed %v, error %v, want %v", tt.name, changed, err, tt.want)
		}
		if got := text(m.snapshot().Items); got != "a=1" {
			t.Errorf("%s: what was known became %q", tt.name, got)
		}
	}
}

func TestMachineNoticesAReplacedHistory(t *testing.T) {
	for name, behind := range map[string]*etcdserverpb.ResponseHeader{
		"lower revision": header(1, 1, 5),
		"lower term":     header(1, 0, 100),
	} {
		m, _ := newMachine()
		m.listed(list(10, kv("a", "1", 5)), false)
		m.watching(start)
		answer := &clientv3.WatchResponse{Header: behind}
		if _, err := m.heard(answer, start); err != nil {
			t.Fatalf("%s, once: %v; a member may lag", name, err)
		}
		if in, err := m.due(start); in != lagAllowed || err != nil {
			t.Errorf("%s: next probe in %v, %v, want as soon as lag is no excuse", name, in, err)
		}
		if _, err := m.heard(answer, start.Add(lagAllowed)); !errors.Is(err, errReplaced) {
			t.Errorf("%s, still after %v: %v, want %v", name, lagAllowed, err, errReplaced)
		}
		// The list that follows is the truth, lower as it is.
		if !m.listed(list(5, kv("b", "1", 3)), false) || text(m.snapshot().Items) != "b=1" {
			t.Errorf("%s: after the list: %q, want b=1", name, text(m.snapshot().Items))
		}
		if _, err := m.heard(events(6, put("c", "1", 6)), start.Add(time.Hour)); err != nil {
			t.Errorf("%s: the new history: %v", name, err)
		}
	}
}

func TestMachineForgivesALaggingMember(t *testing.T) {
	m, _ := newMachine()
	m.listed(list(10), false)
	m.watching(start)
	for i, revision := range []int{9, 10, 9, 11} {
		now := start.Add(time.Duration(i) * lagAllowed / 2)
		if _, err := m.heard(events(revision), now); err != nil {
			t.Errorf("answer %d, at revision %d: %v", i, revision, err)
		}
	}
}

func TestMachineNoticesSilence(t *testing.T) {
	m, _ := newMachine()
	m.listed(list(10), false)
	m.watching(start)
	for _, tt := range []struct {
		after, probeIn time.Duration
		err            error
	}{
		{0, probeAfter, nil},
		{probeAfter - time.Second, time.Second, nil},
		{probeAfter, 0, nil},
		{silentAfter - 1, 0, nil},
		{silentAfter, 0, errSilent},
	} {
		if in, err := m.due(start.Add(tt.after)); in != tt.probeIn || !errors.Is(err, tt.err) {
			t.Errorf("after %v: probe in %v, %v, want %v, %v", tt.after, in, err, tt.probeIn, tt.err)
		}
	}
	m.doubt(start)
	if in, _ := m.due(start); in != 0 {
		t.Errorf("in doubt: probe in %v, want at once", in)
	}
	if _, err := m.heard(events(10), start); err != nil {
		t.Fatal(err)
	}
	if in, _ := m.due(start); in != probeAfter {
		t.Errorf("after an answer: probe in %v, want %v", in, probeAfter)
	}
}

func TestMachineProvisional(t *testing.T) {
	m, _ := newMachine()
	if !m.listed(list(10, kv("a", "1", 5)), true) || !m.snapshot().Provisional {
		t.Error("a member's own view is not marked")
	}
	if !m.listed(list(10, kv("a", "1", 5)), false) || m.snapshot().Provisional {
		t.Error("that the view was confirmed is not news")
	}
	if m.listed(list(11, kv("a", "1", 5)), false) {
		t.Error("an equal list is news")
	}
}
