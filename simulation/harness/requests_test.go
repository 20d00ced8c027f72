package harness

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// TestRefusedRequestsCount has etcd refuse what a process asks, which asks again and again: that is when storms break out,
// and what the rate of requests is for.
func TestRefusedRequestsCount(t *testing.T) {
	w := record.New(schedule.New(1), etcd.New(1), nil)
	t.Cleanup(w.Etcd.Close)
	r := newRequests(w)
	refusal := status.Error(codes.Unavailable, "etcdserver: leader changed")
	r.add(0, schedule.AnyMethod, etcd.Verdict{Err: refusal})
	const asked = 10 * flood
	for _, method := range []string{"Txn", "Range"} {
		for i := range asked {
			if v := r.judge(etcd.Call{Client: w.Plan.DialHost(0, 1), Method: method, Write: method == "Txn"}); !errors.Is(v.Err, refusal) {
				t.Fatalf("%s %d is not refused", method, i)
			}
		}
	}
	if came := r.askedBy(0); came.Requests != asked || came.Repeated != asked {
		t.Errorf("%d and %d of %d requests count", came.Requests, came.Repeated, asked)
	}
}
