package leader

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// If no instance can ever be a candidate, Run returns why instead of waiting.
func TestRun_FailsWithoutPossibleCandidates(t *testing.T) {
	desc := &runtime.ServiceDesc{Name: "a.A", Key: "a", Leader: []string{"/a.A/Do"}}
	for want, l := range map[string]*Leadership{
		"the registry is nil":           Of[*runtime.Registry](nil, desc),
		"the server is nil":             Of[*runtime.Server](nil, desc),
		"given a nil etcd client":       Of(runtime.NewRegistry(nil), desc),
		"etcd client that lacks a part": Of(runtime.NewRegistry(clientv3.NewCtxClient(t.Context())), desc),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := l.Run(ctx, func(context.Context, int64) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run returned the error %v, want one with %q", err, want)
		}
	}
}
