package discovery

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/statuspage"
)

// page returns the status page.
func page(t *testing.T, registry *runtime.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	statuspage.Handler(registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK {
		t.Errorf("the page: %d", w.Code)
	}
	return w.Body.String()
}

// TestMarks has instances that are drained, held and leaving. Status and the page say which.
func TestMarks(t *testing.T) {
	w := newWorld(t, nil)
	for name, addr := range map[string]string{"a": "10.0.0.1:97", "b": "10.0.0.1:98", "c": "10.0.0.1:99"} {
		w.put(key+"/"+name, addr)
	}
	w.put(key+"/d", `{"Addr":"10.0.0.1:100","Metadata":{"grpc_leaving":"true"}}`)
	w.put(configKey, `{"loadBalancingConfig":[{"etcd":{"drain":["b","10.0.0.1:99"]}}]}`)
	w.conn().Connect()
	is := func(what string, ok func(runtime.KeyStatus) bool) {
		t.Helper()
		kit.Eventually(t, soon, what, func() bool { return ok(w.status()) })
	}
	is("two of three are drained", func(k runtime.KeyStatus) bool {
		return len(k.Endpoints) == 3 && slices.Equal(k.DrainedAddrs, []string{"10.0.0.1:98", "10.0.0.1:99"})
	})
	is("one is leaving", func(k runtime.KeyStatus) bool { return len(k.Leaving) == 1 && k.Leaving[0].Instance == "d" })
	w.delete(key+"/", clientv3.WithPrefix())
	is("those that vanish are held", func(k runtime.KeyStatus) bool {
		return k.Held == 3 && slices.Equal(k.HeldAddrs, []string{"10.0.0.1:97", "10.0.0.1:98", "10.0.0.1:99"})
	})
	is("it has left", func(k runtime.KeyStatus) bool { return len(k.Leaving) == 0 })
	if s := w.registry.Status(); s.Etcd.Err != nil || !slices.Equal(s.Etcd.Endpoints, w.etcd.Endpoints()) {
		t.Errorf("etcd is shown as %+v", s.Etcd)
	}
	w.etcd.Cut()
	kit.Eventually(t, soon, "the page says that etcd is away", func() bool {
		text := page(t, w.registry)
		return strings.Contains(text, `"error": "`) && strings.Count(text, `"held": true`) == 3 && strings.Count(text, `"drained": true`) == 2
	})
	kit.Eventually(t, soon, "the cause is known", func() bool {
		err := w.registry.Status().Etcd.Err
		return err != nil && strings.Contains(err.Error(), "connection error")
	})
}
