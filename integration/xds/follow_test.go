package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
)

// A view is Known only with its leader. If two entries have one address, the
// view's endpoint and leader have the same instance id.
func TestFollow_KnowsTheLeader(t *testing.T) {
	w := newWorld(t, "")
	w.desc.Extension = leader.Methods{"/acme.Echo/Lead"}
	a := w.add("a")
	want := "a"

	kit.Eventually(t, "the candidate of the leader is in etcd", func() bool {
		resp, err := etcd.Admin().Get(t.Context(), w.namespace+"_grpc_leader/"+w.desc.Key,
			clientv3.WithPrefix())
		return err == nil && resp.Count == 1
	})

	for i := range 20 {
		if i == 10 {
			want = "z"
			entry := fmt.Sprintf(`{"id":"z","name":"echo","version":"v1","metadata":{"env":"prod"},"endpoints":["grpc://%s"]}`, a.addr)
			w.putValue("z", entry)
		}

		changed := make(chan struct{}, 100)
		f, err := w.newRegistry().Follow(w.desc, func() { changed <- struct{}{} })
		kit.Must(t, err)

		for ctx := kit.Context(t); !f.View().Known; {
			select {
			case <-changed:
			case <-ctx.Done():
				t.Fatalf("timeout, want a known view: %+v", f.View())
			}
		}

		v := f.View()
		if v.Routed != want ||
			len(v.Endpoints) != 1 ||
			v.Endpoints[0].Instance != want ||
			v.Provisional {
			t.Errorf("the first known view: %+v, want the leader %s as its only endpoint", v, want)
		}

		f.Stop()
	}
}

func TestFollowRefuses(t *testing.T) {
	w := newWorld(t, "")
	for want, desc := range map[string]*runtime.ServiceDesc{
		"description is nil": nil,
		"service key":        {Name: "a.B", Key: "a//b"},
		"leader.Methods has the method": {
			Name:      "a.B",
			Key:       "a/b",
			Extension: leader.Methods{"/c.D/E"},
		},
		"service config": {Name: "a.B", Key: "a/b", ServiceConfig: "["},
	} {
		_, err := w.registry.Follow(desc, func() {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Follow: %v, want an error with %q", err, want)
		}

		err = desc.Check()
		if (err == nil) != slices.Contains([]string{"service config"}, want) {
			t.Errorf("Check of the description for which Follow returns %q: %v, want nil only for the service config", want, err)
		}
	}
}
