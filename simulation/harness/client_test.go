package harness

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

func TestRequestsAreJudged(t *testing.T) {
	bounded, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for name, row := range map[string]struct {
		ctx             context.Context
		closed, wrapped bool
		method          string
		want            check.Rule // "": none is broken
	}{
		"as it should be":      {ctx: bounded, method: pb.KV_Range_FullMethodName},
		"unbounded":            {ctx: t.Context(), method: pb.KV_Range_FullMethodName, want: check.Hangs},
		"after the end":        {ctx: bounded, closed: true, method: pb.Lease_LeaseGrant_FullMethodName, want: check.LeftBehind},
		"past what is wrapped": {ctx: bounded, wrapped: true, method: pb.KV_Txn_FullMethodName, want: check.HandedIn},
		"through that":         {ctx: hand(bounded), wrapped: true, method: pb.KV_Txn_FullMethodName},
		"of etcd's client":     {ctx: t.Context(), closed: true, wrapped: true, method: pb.Auth_Authenticate_FullMethodName},
	} {
		w := &world{Record: record.New(schedule.New(1), etcd.New(1), nil)}
		r := requestsOf{w, "server 0", new(atomic.Bool), row.wrapped}
		r.closed.Store(row.closed)
		r.look(row.ctx, row.method, true)
		w.Etcd.Close()
		var got check.Rule
		if problems, _ := w.Result(); len(problems) == 1 {
			got = problems[0].Rule
		}
		if got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}
