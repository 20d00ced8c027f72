package listwatch

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func header(cluster, term, revision int) *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{
		ClusterId: uint64(cluster),
		RaftTerm:  uint64(term),
		Revision:  int64(revision),
	}
}

func list(revision int, kvs ...*mvccpb.KeyValue) *clientv3.GetResponse {
	return &clientv3.GetResponse{Header: header(1, 1, revision), Kvs: kvs}
}

func kv(key, value string, modified int) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key:            []byte(key),
		Value:          []byte(value),
		CreateRevision: 1,
		ModRevision:    int64(modified),
	}
}

func put(key, value string, modified int) *clientv3.Event {
	return &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv(key, value, modified)}
}

func create(key, value string, modified int) *clientv3.Event {
	e := put(key, value, modified)
	e.Kv.CreateRevision = e.Kv.ModRevision

	return e
}

func del(key string, modified int) *clientv3.Event {
	return &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: kv(key, "", modified)}
}

func events(revision int, events ...*clientv3.Event) *clientv3.WatchResponse {
	resp := watchAnswer(header(1, 1, revision))
	resp.Events = events

	return resp
}

// watchAnswer returns an answer of a watch, with a header that may be nil. In
// etcd's client up to 3.6 the answer holds a struct, from 3.7 on a pointer.
func watchAnswer(h *etcdserverpb.ResponseHeader) *clientv3.WatchResponse {
	resp := &clientv3.WatchResponse{}
	switch to := any(&resp.Header).(type) {
	case *etcdserverpb.ResponseHeader:
		to.ClusterId = h.GetClusterId()
		to.MemberId = h.GetMemberId()
		to.Revision = h.GetRevision()
		to.RaftTerm = h.GetRaftTerm()

	case **etcdserverpb.ResponseHeader:
		*to = h
	}

	return resp
}

func TestReplicaProven(t *testing.T) {
	again := kv("b", "1", 12)
	again.CreateRevision = 12

	for _, tt := range []struct {
		name   string
		header *etcdserverpb.ResponseHeader
		count  int               // keys in the range
		last   *mvccpb.KeyValue  // the entry changed last
		watch  []*clientv3.Event // what the watch delivers before the proof
		want   error
	}{
		{"nothing missed", header(1, 1, 50), 2, kv("b", "1", 12), nil, nil},
		{"a deletion missed", header(1, 1, 50), 1, kv("b", "1", 12), nil, errMissed},
		{"another history, where the last change is older", header(1, 1, 50), 2,
			kv("b", "1", 11), nil, errMissed},
		{"another history, with another entry", header(1, 1, 50), 2, again, nil, errMissed},
		{"another history, with another value", header(1, 1, 50), 2,
			kv("b", "2", 12), nil, errMissed},
		{"another history, with another key", header(1, 1, 50), 2,
			kv("d", "1", 12), nil, errMissed},
		{"the key changed last is gone", header(1, 1, 50), 1, kv("a", "1", 5),
			[]*clientv3.Event{del("b", 14)}, nil},
		{"an earlier term", header(1, 0, 50), 2, kv("b", "1", 12), nil, errReplaced},
		{"another cluster", header(2, 1, 50), 2, kv("b", "1", 12), nil, errCluster},
	} {
		r := &replica[string]{set: newSet(new([]string))}
		var l listing[string]

		more, err := l.add(list(10, kv("a", "1", 5), kv("c", "other", 5)), &r.set)
		if more || err != nil {
			t.Fatal("not one page")
		}

		r.applyList(&l, false)
		r.resetLiveness(start)

		// c is deleted; b is created, malformed, and then changed.
		for _, events := range []*clientv3.WatchResponse{
			events(12, del("c", 11), create("b", "bad", 11), put("b", "1", 12)),
			events(14, tt.watch...),
		} {
			if _, err := r.applyAnswer(events, start); err != nil {
				t.Fatal(err)
			}
		}

		resp := &clientv3.GetResponse{
			Header: tt.header,
			Count:  int64(tt.count),
			Kvs:    []*mvccpb.KeyValue{tt.last},
		}
		if err := r.checkProof(resp, 0, start, 0); err != nil {
			t.Errorf("%s: the first proof returns %v, want nil: "+
				"the watch may deliver the change soon", tt.name, err)
		}

		if err := r.checkProof(resp, 0, start.Add(lagAllowed), 0); !errors.Is(err, tt.want) {
			t.Errorf("%s: the second proof returns %v, want %v", tt.name, err, tt.want)
		}
	}
}
