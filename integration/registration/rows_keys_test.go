package registration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// service is the key of one of many services, none of which is a prefix of another.
func service(i int) string { return fmt.Sprintf("svc/%02d", i) }

// services registers n services, and returns the registrations and the contents that etcd has then.
func (w *world) services(r *runtime.Registry, n int) ([]*runtime.Registration, contents) {
	w.t.Helper()
	var all []*runtime.Registration
	want := make(contents)
	for i := range n {
		all = append(all, register(w.t, r, service(i), addr(0), runtime.WithVersion("v1")))
		want[service(i)+"/"+addr(0)] = "v1"
	}
	return all, want
}

// Someone overwrites the value and leaves the lease as it is.
func TestG18_Overwritten(t *testing.T) {
	leak.Beside(t)
	for _, n := range []int{1, 20} {
		w := newWorld(t, nil)
		_, want := w.services(w.registry, n)
		w.put(service(0)+"/"+addr(0), `{"Addr":"10.6.6.6:666"}`, clientv3.WithIgnoreLease())
		took := w.becomes("svc/", want, "after a put with ignore-lease")
		report.Took(t, "G18", fmt.Sprintf("own value back after it was overwritten, of %d", n), took)
	}
}

// user is someone who may read and write all of n services.
func user(name string, n int) etcdtest.User {
	u := etcdtest.User{Name: name, Password: "p"}
	for i := range n {
		u.Permissions = append(u.Permissions, etcdtest.ReadWrite(service(i)+"/"))
	}
	return u
}

// permit gives a role a permission in place of the one that it had, if any.
func (w *world) permit(role, prefix string, kind clientv3.PermissionType) {
	w.t.Helper()
	_, err := w.etcd.Admin().RoleGrantPermission(kit.Bounded(w.t, soon), role, prefix, clientv3.GetPrefixRangeEnd(prefix), kind)
	must(w.t, err)
}

const mayBoth = clientv3.PermissionType(clientv3.PermReadWrite)

// blind is the one service of many that its role may write and not read.
const blind = 7

func newBlindWorld(t *testing.T) *world {
	u := user("svc", 20)
	u.Permissions[blind].Read = false
	return newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root", u)})
}

func (w *world) blindRegistry() *runtime.Registry {
	w.t.Helper()
	return w.newRegistry(w.etcd.Client(w.t, etcdtest.As("svc", "p")))
}

func TestG19_OneKeyMayNotBeRead(t *testing.T) {
	leak.Beside(t)
	w := newBlindWorld(t)
	_, want := w.services(w.blindRegistry(), 20)
	w.is("svc/", want, "after Register")

	w.delete(service(3) + "/" + addr(0))
	took := w.becomes("svc/", want, "after one was deleted")
	report.Took(t, "G19", "own key back after it was deleted, where another may not be read", took)
	w.put(service(4)+"/"+addr(0), "x", clientv3.WithIgnoreLease())
	w.becomes("svc/", want, "after one was overwritten")
}

// A right that is granted later is noticed when the connection is back. (Otherwise within a minute, says the walk of the
// core.)
func TestG19_GrantedLater(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newBlindWorld(t)
	_, want := w.services(w.blindRegistry(), 20)
	w.delete(service(3) + "/" + addr(0))
	w.becomes("svc/", want, "after one was deleted") // so the process has looked, and been denied
	w.permit("svc", service(blind)+"/", mayBoth)
	w.etcd.Cut()
	w.etcd.Restore()
	w.delete(service(blind) + "/" + addr(0))
	report.Took(t, "G19", "a key that was deleted back after the right to read it was granted", w.becomes("svc/", want, "after the grant"))
}

// grantedLease calls granted with each new lease before Grant returns.
type grantedLease struct {
	clientv3.Lease
	granted func(clientv3.LeaseID)
}

func (l *grantedLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	resp, err := l.Lease.Grant(ctx, ttl)
	if err == nil {
		l.granted(resp.ID)
	}
	return resp, err
}

// newRivals returns a world of two users, a and b. Each may write the keys of its own service. hang has a put a
// key on a lease.
func newRivals(t *testing.T) (w *world, hang func(key string, id clientv3.LeaseID)) {
	users := []etcdtest.User{
		{Name: "a", Password: "p", Permissions: []etcdtest.Permission{etcdtest.ReadWrite("a/")}},
		{Name: "b", Password: "p", Permissions: []etcdtest.Permission{etcdtest.ReadWrite("b/")}},
	}
	w = newWorld(t, []etcdtest.Option{etcdtest.WithAuth("root", users...)})
	a := w.etcd.Client(t, etcdtest.As("a", "p"))
	return w, func(key string, id clientv3.LeaseID) {
		w.t.Helper()
		if _, err := a.Put(kit.Bounded(t, soon), key, "x", clientv3.WithLease(id)); err != nil {
			t.Errorf("hang %s on lease %x: %v", key, int64(id), err)
		}
	}
}

// Another user hangs a key on our lease. We may not write that key, so etcd refuses our puts on the lease.
func TestS3_AnothersKeyOnAFreshLease(t *testing.T) {
	kit.Night(t)
	w, hang := newRivals(t)
	client := w.etcd.Client(t, etcdtest.As("b", "p"))
	var once sync.Once
	client.Lease = &grantedLease{client.Lease, func(id clientv3.LeaseID) { once.Do(func() { hang("a/key", id) }) }}
	start := time.Now()
	g := register(t, w.newRegistry(client), "b/svc", addr(0))
	took := time.Since(start)
	report.Took(t, "S3", "registered though another's key hangs on the fresh lease", took)
	if got := w.get("b/svc/" + addr(0)); got == nil || got.lease != g.Status().LeaseID || got.lease == w.get("a/key").lease {
		t.Errorf("registered as %+v, on the lease that another's key hangs on", got)
	}
}

func TestS3_AnothersKeyOnALeaseInUse(t *testing.T) {
	w, _ := newRivals(t)
	g := register(t, w.newRegistry(w.etcd.Client(t, etcdtest.As("b", "p"))), "b/svc", addr(0), runtime.WithVersion("v1"))
	was := g.Status().LeaseID
	w.put("a/key", "x", clientv3.WithLease(was)) // which takes one who may write both
	start := time.Now()
	must(t, g.Update(kit.Bounded(t, soon), runtime.WithVersion("v2")))
	took := time.Since(start)
	report.Took(t, "S3", "updated though another's key hangs on the lease", took)
	w.is("b/", contents{"b/svc/" + addr(0): "v2"}, "after Update")
	w.there("b/svc/"+addr(0), was)
}

func TestS3_AnothersKeyOnAPausedEntrysLease(t *testing.T) {
	kit.Night(t)
	w, hang := newRivals(t)
	g := register(t, w.newRegistry(w.etcd.Client(t, etcdtest.As("b", "p"))), "b/svc", addr(0))
	must(t, g.Pause(kit.Bounded(t, soon)))
	for _, id := range w.leases() {
		hang("a/key", id)
	}
	start := time.Now()
	must(t, g.Resume(kit.Bounded(t, soon)))
	took := time.Since(start)
	report.Took(t, "S3", "resumed though another would hang a key on the lease", took)
}

// A lease without keys would be an invitation to others to hang theirs on it.
func TestS3_NoEmptyLeaseLiesAbout(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	for range 2 {
		must(t, g.Pause(kit.Bounded(t, soon)))
		kit.Eventually(t, soon, "no lease while all is paused", func() bool { return len(w.leases()) == 0 })
		must(t, g.Resume(kit.Bounded(t, soon)))
		w.is(key, contents{entry: ""}, "after Resume")
	}
	must(t, g.Close(kit.Bounded(t, soon)))
	kit.Eventually(t, soon, "no lease after Close", func() bool { return len(w.leases()) == 0 })
}
