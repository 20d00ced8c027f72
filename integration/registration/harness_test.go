// Package registration tests registrations and servers against real etcd.
package registration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const key = "helloworld/greeter"

// world is one etcd and a registry that uses it.
type world struct {
	t        *testing.T
	etcd     *etcdtest.Cluster
	client   *clientv3.Client
	registry *runtime.Registry
	logs     *kit.Logs
}

func newWorld(t *testing.T, cluster []etcdtest.Option, opts ...runtime.Option) *world {
	t.Helper()

	leak.Check(t)
	w := &world{t: t, etcd: etcdtest.Start(t, cluster...), logs: &kit.Logs{}}
	w.client = w.etcd.Client(t)
	w.registry = w.newRegistry(w.client, opts...)

	return w
}

// newRegistry returns a registry that the end of the test closes. An error of
// Close is only logged, as etcd may be down.
func (w *world) newRegistry(client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	w.t.Helper()
	return kit.Registry(w.t, w.logs, client, opts...)
}

// register registers an endpoint in the registry of the world.
func (w *world) register(key, addr string, opts ...runtime.RegisterOption) *runtime.Registration {
	w.t.Helper()
	return register(w.t, w.registry, key, addr, opts...)
}

func register(
	t *testing.T,
	r *runtime.Registry,
	key, addr string,
	opts ...runtime.RegisterOption,
) *runtime.Registration {
	t.Helper()

	g, err := r.Register(kit.Context(t), key, runtime.Endpoint{Addr: addr}, opts...)
	kit.Must(t, err)

	st := g.Status()
	unread := st.Err != nil && strings.Contains(st.Err.Error(), "does not let this process read it")
	if st.State != runtime.StateRegistered ||
		st.Err != nil && !unread ||
		st.LeaseID == 0 ||
		st.Key != key {
		t.Fatalf("status after Register: %+v, want registered under %s with a lease and no error",
			st, key)
	}

	return g
}

// kv is the state of a key in etcd.
type kv struct {
	value string
	lease clientv3.LeaseID
	rev   int64 // the mod revision
}

func (w *world) get(etcdKey string) *kv {
	w.t.Helper()

	resp, err := w.etcd.Admin().Get(kit.Context(w.t), etcdKey)
	kit.Must(w.t, err)

	if len(resp.Kvs) == 0 {
		return nil
	}

	got := resp.Kvs[0]

	return &kv{string(got.Value), clientv3.LeaseID(got.Lease), got.ModRevision}
}

// keys returns all keys that begin with prefix.
func (w *world) keys(prefix string) []string {
	w.t.Helper()
	return slices.Sorted(maps.Keys(w.values(prefix)))
}

func (w *world) leases() []clientv3.LeaseID {
	w.t.Helper()

	resp, err := w.etcd.Admin().Leases(kit.Context(w.t))
	kit.Must(w.t, err)

	var ids []clientv3.LeaseID
	for _, l := range resp.Leases {
		ids = append(ids, l.ID)
	}

	slices.Sort(ids)

	return ids
}

// nothing requires that etcd has no key and no lease.
func (w *world) nothing(when string) {
	w.t.Helper()

	keys := w.keys("")
	leases := w.leases()
	if len(keys)+len(leases) > 0 {
		w.t.Errorf("%s: etcd has the keys %v and the leases %v, want none", when, keys, leases)
	}
}

func (w *world) put(k, v string, opts ...clientv3.OpOption) {
	w.t.Helper()
	_, err := w.etcd.Admin().Put(kit.Context(w.t), k, v, opts...)
	kit.Must(w.t, err)
}

func (w *world) delete(k string) {
	w.t.Helper()
	_, err := w.etcd.Admin().Delete(kit.Context(w.t), k)
	kit.Must(w.t, err)
}

func (w *world) revoke(id clientv3.LeaseID) {
	w.t.Helper()
	_, err := w.etcd.Admin().Revoke(kit.Context(w.t), id)
	kit.Must(w.t, err)
}

// there waits until the key is in etcd on a lease other than before.
func (w *world) there(etcdKey string, before clientv3.LeaseID) {
	w.t.Helper()
	kit.Eventually(w.t, etcdKey+" is in etcd on a new lease", func() bool {
		got := w.get(etcdKey)
		return got != nil && got.lease != 0 && got.lease != before
	})
}

func (w *world) state(g *runtime.Registration, state runtime.State) {
	w.t.Helper()
	kit.Eventually(w.t, "state "+state.String(), func() bool { return g.Status().State == state })
}

func addr(i int) string {
	return fmt.Sprintf("10.0.%d.%d:9000", i/250, i%250+1)
}

// contents maps each key that etcd should have to a part of its value.
type contents map[string]string

// values returns the values of the keys in etcd that begin with prefix, by key.
func (w *world) values(prefix string) map[string]string {
	w.t.Helper()

	resp, err := w.etcd.Admin().Get(kit.Context(w.t), prefix, clientv3.WithPrefix())
	kit.Must(w.t, err)

	values := make(map[string]string)
	for _, kv := range resp.Kvs {
		values[string(kv.Key)] = string(kv.Value)
	}

	return values
}

// is checks that the keys in etcd that begin with prefix are exactly the wanted
// contents.
func (w *world) is(prefix string, want contents, when string) {
	w.t.Helper()

	if got := w.values(prefix); !maps.EqualFunc(got, want, strings.Contains) {
		w.t.Errorf("%s: etcd has %.80q, want %.80q", when, got, want)
	}
}

// becomes waits until the keys in etcd that begin with prefix are exactly the
// wanted contents.
func (w *world) becomes(prefix string, want contents, when string) {
	w.t.Helper()
	defer func() {
		if w.t.Failed() {
			w.is(prefix, want, when)
		}
	}()

	kit.Eventually(w.t, "etcd has the wanted contents "+when, func() bool {
		return maps.EqualFunc(w.values(prefix), want, strings.Contains)
	})
}
