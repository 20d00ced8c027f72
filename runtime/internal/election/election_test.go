package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// told is a watch that says which candidate is the first.
type told struct{ first First }

func (w *told) First() First     { return w.first }
func (*told) Err() error         { return nil }
func (*told) Read(func()) func() { return func() {} }
func (w *told) says(e *Election, f First) {
	w.first = f
	e.heard()
}

// answer is etcd's to a question.
type answer struct {
	first First
	err   error
}

// pages is an etcd with candidates, which it returns by their keys.
type pages struct {
	clientv3.KV
	all []*mvccpb.KeyValue
}

func (k *pages) Get(_ context.Context, from string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	op := clientv3.OpGet(from, opts...)
	var page []*mvccpb.KeyValue
	for _, kv := range k.all {
		if string(kv.Key) >= from && kv.CreateRevision <= op.MaxCreateRev() && len(page) < pageSize {
			page = append(page, kv)
		}
	}
	return &clientv3.GetResponse{Kvs: page}, nil
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
		{"many", 0, 3 * pageSize, 1},
		{"after many that are none", 2 * pageSize, 2, 0},
	} {
		etcd := &pages{}
		add := func(prefix string, n int, kv mvccpb.KeyValue) {
			for i := range n {
				one := kv
				one.Key = fmt.Appendf(nil, "p/%s%04d", prefix, i)
				etcd.all = append(etcd.all, &one)
			}
		}
		add("a", row.strays, mvccpb.KeyValue{CreateRevision: 4})
		add("b", row.later, mvccpb.KeyValue{CreateRevision: 6, Lease: 1, Value: []byte("x")})
		add("c", row.ties, mvccpb.KeyValue{CreateRevision: 5, Lease: 1, Value: []byte("x")})
		e := &Election{prefix: "p/", client: &clientv3.Client{KV: etcd}}
		if got, err := e.first(t.Context(), 5); got != (First{"p/c0000", 5}) || err != nil {
			t.Errorf("%s: the first is %v, %v", row.rule, got, err)
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
			<-questions <- answer{first: First{"a", 5}}
		}, nil},
		{"behind another it does not lead", func(e *Election, w *told, questions chan chan answer) {
			<-questions <- answer{err: failed}
			synctest.Wait()
			w.says(e, First{"b", 4})
		}, nil},
		{"a question for a candidate before does not count", func(e *Election, _ *told, questions chan chan answer) {
			before := <-questions
			e.Stood(lease.Candidacy{})
			e.Stood(lease.Candidacy{Key: "a", Created: 5, Until: time.Now().Add(time.Minute)})
			<-questions <- answer{first: First{"a", 5}}
			synctest.Wait()
			before <- answer{err: failed}
		}, nil},
	} {
		t.Run(row.rule, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				etcd, w := &asked{questions: make(chan chan answer)}, &told{first: First{"a", 5}}
				client := clientv3.NewCtxClient(t.Context())
				client.KV = etcd
				e := New(client, slog.New(slog.DiscardHandler), "", w)
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
