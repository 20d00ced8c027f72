package listwatch

import (
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// FuzzAnswers has etcd answer anything to whatever the core asks: other clusters, revisions that go back and
// forth, events in any order, pages without an end. Every snapshot is sorted, and a list that
// answers for good in the end heals whatever was believed before.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x00\x0a\x03\x05\x01\x00\x00\x40\x01\x0b\x01\x01\x0b\x00\x00"))
	f.Add([]byte("\x00\x00\x05\x0f\x01\x02\x03\x04\x00\x00\x81\x02\x06\x11\x07\x22\x08\x33\x00\x42\x01"))
	f.Add([]byte("\x01\x07\x07\x07\x20\x20\x01\x01\x0a\xff\x01\x02\x03\x04\x05\x06\x00\x60\x61\x62\x63\x64"))
	f.Fuzz(func(t *testing.T, script []byte) {
		l := &life{t: t, core: testCore(testSpec()), script: script, now: start}
		for l.step(event{}); len(l.script) > 0; {
			l.step(l.outcome())
		}
		l.heal()
	})
}

// life is a core and what a script has etcd answer.
type life struct {
	t      *testing.T
	core   *core[string]
	script []byte
	now    time.Time
	doing  call
	page   page
	last   *Update[string]
}

// next takes a byte of the script, 0 behind its end.
func (l *life) next() byte {
	if len(l.script) == 0 {
		return 0
	}
	b := l.script[0]
	l.script = l.script[1:]
	return b
}

// step feeds an event to the core, and checks its update.
func (l *life) step(e event) {
	l.t.Helper()
	do := l.core.step(e, l.now)
	l.doing, l.page = do.call, do.page
	if do.call == callWait && do.until.IsZero() || do.call != callWait && do.bound <= 0 {
		l.t.Fatalf("call %d within %v, until %v", do.call, do.bound, do.until)
	}
	if do.update == nil {
		return
	}
	l.last = do.update
	if s := do.update.Snapshot; s != nil {
		for i, item := range s.Items {
			if item.Value == "other" || item.Value == "bad" || i > 0 && s.Items[i-1].Key >= item.Key {
				l.t.Fatalf("published %s", text(s.Items))
			}
		}
	}
}

// outcome returns what the script has come of the call under way.
func (l *life) outcome() event {
	b := l.next()
	l.now = l.now.Add([]time.Duration{0, 50 * ms, time.Second, 5 * time.Second}[b>>6])
	if b&0x0f == 0x0f {
		return []event{late, refused, closed, failed(rpctypes.ErrCompacted)}[b>>4&3]
	}
	switch l.doing {
	case callList, callListLocal, callVerify, callProbe:
		return read(l.read())
	case callWait:
		return l.heard(b)
	}
	return event{back: b&1 == 1}
}

func (l *life) header() *etcdserverpb.ResponseHeader {
	b := l.next()
	if b == 0xff {
		return nil // as etcd's gRPC proxy may leave it
	}
	h := header(1+int(b>>7), 1+int(b>>5&3), int(b&0x1f))
	h.MemberId = uint64(b >> 4 & 1)
	return h
}

// read returns a list of some of four keys, sorted as etcd's are.
func (l *life) read() *clientv3.GetResponse {
	resp := &clientv3.GetResponse{Header: l.header()}
	which := l.next()
	for i, key := range []string{"a", "b", "c", "d"} {
		if which>>i&1 == 1 && key >= l.page.from {
			resp.Kvs = append(resp.Kvs, l.kv(key))
		}
	}
	resp.Count = int64(which >> 4 & 7)
	resp.More = which>>7 == 1
	return resp
}

func (l *life) kv(key string) *mvccpb.KeyValue {
	b := l.next()
	value := []string{"1", "2", "bad", "other", ""}[b%5]
	return &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), CreateRevision: int64(b >> 6), ModRevision: int64(b >> 3)}
}

// heard returns what ends a wait: nothing, another connection or an answer of the watch.
func (l *life) heard(b byte) event {
	switch b & 3 {
	case 0:
		return event{}
	case 1:
		return []event{back, back, {doubt: true}, {}}[b>>2&3]
	}
	resp := watchAnswer(l.header())
	switch b >> 2 & 3 {
	case 1:
		resp.Canceled = true
	case 2:
		resp.CompactRevision = 5
	}
	for n := b >> 4 & 3; n > 0; n-- {
		e := &clientv3.Event{Kv: l.kv([]string{"a", "b", "c", "d"}[l.next()&3])}
		if l.next()&1 == 1 {
			e.Type = clientv3.EventTypeDelete
		}
		resp.Events = append(resp.Events, e)
	}
	return answered(resp)
}

// heal has calls fail until a list is made from the beginning, and answers that with the truth.
func (l *life) heal() {
	l.t.Helper()
	compacted := false // so that no list goes on that was begun before
	for tries := 0; l.doing != callList || !compacted; tries++ {
		if tries > 20 {
			l.t.Fatalf("still at call %d", l.doing)
		}
		l.now = l.now.Add(20 * time.Second)
		switch l.doing {
		case callPause:
			l.step(ok)
		case callList:
			compacted = true
			l.step(failed(rpctypes.ErrCompacted))
		default:
			l.step(closed)
		}
	}
	truth := list(100, kv("a", "1", 90), kv("c", "3", 95))
	truth.Count = 2
	for _, e := range []event{read(truth), ok, answered(events(100))} {
		l.now = l.now.Add(ms)
		l.step(e)
	}
	if l.last == nil || l.last.Err != nil || l.last.Snapshot == nil || l.last.Snapshot.Provisional || text(l.last.Snapshot.Items) != "a=1 c=3" {
		l.t.Fatalf("after a list of a=1 c=3, the last update is %+v", l.last)
	}
}
