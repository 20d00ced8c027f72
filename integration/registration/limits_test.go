package registration

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The client sends no message over 64 KB, and 20 entries of 8 KB exceed that together.
func TestMessageLimit(t *testing.T) {
	w := newWorld(t, nil)
	client := w.etcd.Client(t, func(cfg *clientv3.Config) { cfg.MaxCallSendMsgSize = 64 << 10 })
	r := w.newRegistry(client)
	large := strings.Repeat("x", 8<<10)
	var all []*runtime.Registration
	want := make(contents)
	for i := range 20 {
		all = append(all, register(t, r, service(i), addr(0), runtime.WithMetadata("m", large)))
		want[service(i)+"/"+addr(0)] = large
	}
	w.revoke(all[0].Status().LeaseID)
	w.becomes("svc/", want, "after the lease was revoked")
}
