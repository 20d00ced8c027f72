package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// told is a watch that says which candidate is the first.
type told struct{ first First }

func (w *told) View() View       { return View{First: w.first} }
func (*told) Err() error         { return nil }
func (*told) Read(func()) func() { return func() {} }
func (w *told) says(e *Election, f First) {
	w.first = f
	e.heard()
}

// aPage is how many entries the first page of a question has.
const aPage = 32

// keys is an etcd with candidates, sorted by their keys.
type keys struct {
	pb.KVClient
	all   []*mvccpb.KeyValue
	reads int
	bytes int // of the largest answer
}

func (k *keys) Range(_ context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	k.reads++
	answer, bytes := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 10}}, 0
	for _, kv := range k.all {
		key := string(kv.Key)
		if key < string(r.Key) || len(r.RangeEnd) == 0 && key > string(r.Key) {
			continue
		}
		answer.Count++
		if r.Limit > 0 && answer.Count > r.Limit {
			answer.More = true
			continue
		}
		answer.Kvs, bytes = append(answer.Kvs, kv), bytes+len(kv.Key)+len(kv.Value)
	}
	k.bytes = max(k.bytes, bytes)
	return answer, nil
}

// first asks which candidate precedes all others.
func (k *keys) first(t *testing.T) First {
	t.Helper()
	first, err := question{clientv3.NewKVFromKVClient(k, nil), "p/"}.first(t.Context())
	if err != nil {
		t.Error(err)
	}
	return first
}

func (k *keys) add(prefix string, n int, kv mvccpb.KeyValue) {
	for i := range n {
		one := kv
		one.Key = fmt.Appendf(nil, "p/%s%05d", prefix, i)
		k.all = append(k.all, &one)
	}
}

// However many candidates one transaction has created, the question names the first of them, as the watch does.
func TestE2_OneOrder(t *testing.T) {
	for _, row := range []struct {
		rule   string
		strays int // below all candidates
		ties   int
		later  int
	}{
		{"one", 0, 1, 0},
		{"more than etcd sorts in their order", 0, 13, 13},
		{"many", 0, 2 * aPage, 1},
		{"after many that are none", 2 * aPage, 2, 0},
	} {
		etcd := &keys{}
		etcd.add("a", row.strays, mvccpb.KeyValue{CreateRevision: 4})
		etcd.add("b", row.later, mvccpb.KeyValue{CreateRevision: 6, Lease: 1, Value: []byte("x")})
		etcd.add("c", row.ties, mvccpb.KeyValue{CreateRevision: 5, Lease: 1, Value: []byte("x")})
		if got := etcd.first(t); got != (First{Key: "p/c00000", Created: 5}) {
			t.Errorf("%s: the first is %v", row.rule, got)
		}
	}
}

// What a question reads is bounded, whatever is under the prefix of the candidates.
func TestE7_AQuestionIsBounded(t *testing.T) {
	for _, row := range []struct {
		rule        string
		reads, most int // bytes
		add         func(etcd *keys)
	}{
		{"large values", 210, aPage << 20, func(etcd *keys) {
			etcd.add("a", 200, mvccpb.KeyValue{CreateRevision: 9, Lease: 1, Value: make([]byte, 1<<20)})
		}},
		{"many keys that are no candidates", 60_000/4096 + 4, 64 << 10, func(etcd *keys) {
			etcd.add("a", 60_000, mvccpb.KeyValue{CreateRevision: 4})
		}},
		{"large ones behind small ones", 210, aPage << 20, func(etcd *keys) {
			etcd.add("A", 8, mvccpb.KeyValue{CreateRevision: 4})
			etcd.add("a", 200, mvccpb.KeyValue{CreateRevision: 4, Lease: 1, Value: make([]byte, 1<<20)})
		}},
		{"long keys", 210, aPage << 20, func(etcd *keys) {
			etcd.add(strings.Repeat("a", 100<<10), 200, mvccpb.KeyValue{CreateRevision: 4})
		}},
	} {
		etcd := &keys{}
		row.add(etcd)
		etcd.add("b", 1, mvccpb.KeyValue{CreateRevision: 5, Lease: 1, Value: []byte("x")})
		if got := etcd.first(t); got != (First{Key: "p/b00000", Created: 5}) {
			t.Errorf("%s: the first is %v", row.rule, got)
		}
		if most := row.most + 4<<10; etcd.reads > row.reads || etcd.bytes > most {
			t.Errorf("%s: %d reads, of %d bytes at the most; want %d, %d", row.rule, etcd.reads, etcd.bytes, row.reads, most)
		}
	}
}

// asked is an etcd that is asked for the first candidate. It sends each question a channel for its answer.
type asked struct {
	clientv3.KV
	questions chan chan answer
}

func (k *asked) Get(ctx context.Context, _ string, _ ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	answers, a := make(chan answer, 1), answer{}
	select {
	case k.questions <- answers:
		a = <-answers
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	if a.err != nil {
		return nil, a.err
	}
	kv := &mvccpb.KeyValue{Key: []byte(a.first.Key), CreateRevision: a.first.Created, Lease: 1, Value: []byte("a")}
	return &clientv3.GetResponse{Kvs: []*mvccpb.KeyValue{kv}}, nil
}

// Only a question that counts says that nobody knows who leads, and only while that turns on its answer.
func TestErr(t *testing.T) {
	failed := errors.New("no answer")
	for _, row := range []struct {
		rule string
		do   func(e *Election, w *told, questions chan chan answer)
		want error
	}{
		{"without an answer nobody knows", func(_ *Election, _ *told, questions chan chan answer) {
			<-questions <- answer{err: failed}
		}, failed},
		{"an answer tells", func(_ *Election, _ *told, questions chan chan answer) {
			<-questions <- answer{err: failed}
			<-questions <- answer{first: First{Key: "a", Created: 5}}
		}, nil},
		{"behind another it does not lead", func(e *Election, w *told, questions chan chan answer) {
			<-questions <- answer{err: failed}
			synctest.Wait()
			w.says(e, First{Key: "b", Created: 4})
		}, nil},
		{"a question for a candidate before does not count", func(e *Election, _ *told, questions chan chan answer) {
			before := <-questions
			e.Stood(lease.Candidacy{})
			e.Stood(lease.Candidacy{Key: "a", Created: 5, Until: time.Now().Add(time.Minute)})
			<-questions <- answer{first: First{Key: "a", Created: 5}}
			synctest.Wait()
			before <- answer{err: failed}
		}, nil},
	} {
		t.Run(row.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				etcd, w := &asked{questions: make(chan chan answer)}, &told{first: First{Key: "a", Created: 5}}
				client := clientv3.NewCtxClient(t.Context())
				client.KV = etcd
				e := New(client, slog.New(slog.DiscardHandler), "", w, func() {})
				e.heard()
				e.Stood(lease.Candidacy{Key: "a", Created: 5, Until: time.Now().Add(time.Minute)})
				row.do(e, w, etcd.questions)
				synctest.Wait()
				if err := e.Err(); !errors.Is(err, row.want) {
					t.Errorf("%v, want %v", err, row.want)
				}
				e.Close()
			})
		})
	}
}

// Who finds no term, for it has ended and the timer is late, is told when a renewal that was under way goes on with it.
func TestATermThatEndsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		etcd, w, turns := &asked{questions: make(chan chan answer)}, &told{first: First{Key: "a", Created: 5}}, 0
		client := clientv3.NewCtxClient(t.Context())
		client.KV = etcd
		e := New(client, slog.New(slog.DiscardHandler), "", w, func() { turns++ })
		defer e.Close()
		e.heard()
		e.Stood(lease.Candidacy{Key: "a", Created: 5, Until: time.Now().Add(time.Minute)})
		<-etcd.questions <- answer{first: w.first}
		synctest.Wait()
		e.timer.Stop()
		time.Sleep(time.Minute)
		turns = 0
		if term, err := e.Term(); term != (Term{}) || err != nil {
			t.Errorf("the term is %v, %v", term, err)
		}
		e.Stood(lease.Candidacy{Key: "a", Created: 5, Until: time.Now().Add(time.Minute)})
		if term, err := e.Term(); term.Token != 5 || err != nil || turns != 2 {
			t.Errorf("the term is %v, %v, and was told of %d times, want 2", term, err, turns)
		}
	})
}
