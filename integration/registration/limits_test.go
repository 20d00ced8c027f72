package registration

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// etcd without space refuses puts and new leases, but entries can still be removed. What is to be back stays (G42).
func TestNoSpace(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	all, want := w.services(w.registry, 3)
	closed, paused, updated := all[0], all[1], all[2]
	must(t, w.etcd.SetNoSpace(kit.Bounded(t, soon), true))
	v2 := runtime.WithVersion("v2")
	if err := updated.Update(kit.Bounded(t, soon), v2); err == nil || !strings.Contains(err.Error(), "space") {
		t.Errorf("Update without space: %v", err)
	}
	must(t, closed.Close(kit.Bounded(t, soon)))
	delete(want, service(0)+"/"+addr(0))
	if err := paused.Pause(kit.Bounded(t, soon)); err == nil || !strings.Contains(err.Error(), "no space to take it back") {
		t.Errorf("Pause without space: %v", err)
	}
	w.is("svc/", want, "without space")
	delete(want, service(1)+"/"+addr(0))
	must(t, w.etcd.SetNoSpace(kit.Bounded(t, soon), false))
	want[service(2)+"/"+addr(0)] = "v2"
	w.becomes("svc/", want, "with space again")
	must(t, paused.Resume(kit.Bounded(t, soon)))
	want[service(1)+"/"+addr(0)] = "v1"
	w.is("svc/", want, "after Resume")
}

// A client that sends no message of more than 64 KB, which 20 entries of 8 KB exceed together.
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
