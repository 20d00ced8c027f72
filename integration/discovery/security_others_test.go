package discovery

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Whoever may read the keys of a service or its live config, who may do neither but is a user of etcd, and who is none.

// grantAs has a user grant a lease with an id of its choice.
func grantAs(ctx context.Context, c *clientv3.Client, id int64) error {
	_, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: 60})
	return err
}

func granting(c *clientv3.Client) attempt {
	return attempt{"grant a lease", func(ctx context.Context) error { _, err := c.Grant(ctx, 60); return err }}
}

func listingLeases(c *clientv3.Client) attempt {
	return attempt{"list the leases", func(ctx context.Context) error { _, err := c.Leases(ctx); return err }}
}

// running is what takes a root.
func running(c *clientv3.Client) []attempt {
	return []attempt{
		{"compact", func(ctx context.Context) error { _, err := c.Compact(ctx, 1); return err }},
		{"take a snapshot", func(ctx context.Context) error {
			r, err := c.Snapshot(ctx)
			if err == nil {
				_, err = r.Read(make([]byte, 1))
				_ = r.Close()
			}
			return err
		}},
		{"defragment", func(ctx context.Context) error { _, err := c.Defragment(ctx, c.Endpoints()[0]); return err }},
		{"move the leader", func(ctx context.Context) error { _, err := c.MoveLeader(ctx, 1); return err }},
		{"add a member", func(ctx context.Context) error {
			_, err := c.MemberAdd(ctx, []string{"http://127.0.0.1:1"})
			return err
		}},
		{"raise an alarm", func(ctx context.Context) error {
			_, err := pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE})
			return err
		}},
		{"see the users", func(ctx context.Context) error { _, err := c.UserList(ctx); return err }},
		{"see another's role", func(ctx context.Context) error { _, err := c.RoleGet(ctx, "greeter-server"); return err }},
		{"make a user", func(ctx context.Context) error { _, err := c.UserAdd(ctx, "x", "x"); return err }},
		{"turn authentication off", func(ctx context.Context) error { _, err := c.AuthDisable(ctx); return err }},
	}
}

func TestReaderSeesTheService(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	lease := w.grant()
	w.put(guardedKey+"/a", `{"Addr":"10.0.0.1:80","Metadata":{"version":"v1","zone":"z","any":"other"}}`, clientv3.WithLease(lease))
	w.put("_grpc_config/"+guardedKey, `{"methodConfig":[]}`)
	reader := w.as("greeter-caller")
	w.allowed(getting(reader, guardedKey+"/a"), watching(reader, guardedKey+"/", clientv3.WithPrefix()), getting(reader, "_grpc_config/"+guardedKey),
		asking(reader, lease, clientv3.WithAttachedKeys()))
	set := <-w.follow(w.registry(reader), guardedKey)
	if len(set) != 1 || set[0].Zone != "z" || set[0].Metadata["any"] != "other" {
		t.Errorf("the reader sees %v", set)
	}
}

func TestReaderCannotChangeAnything(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	lease := w.grant()
	w.put(guardedKey+"/a", "10.0.0.1:80", clientv3.WithLease(lease))
	reader := w.as("greeter-caller")
	for _, k := range []string{guardedKey + "/a", guardedKey + "/new", "_grpc_config/" + guardedKey} {
		w.denied(putting(reader, k), deleting(reader, k))
	}
	w.denied(hanging(reader, guardedKey+"/b", lease), revoking(reader, lease), renewing(reader, lease))
	w.denied(slices.Concat(touching(reader, guardedKey+"2/x"), touching(reader, "acme/other/x"), touching(reader, "_grpc_config/acme/other"))...)
	_, err := w.registry(reader).Register(kit.Bounded(t, soon), guardedKey, runtime.Endpoint{Addr: "10.6.6.6:80"})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the reader registers: %v", err)
	}
}

// etcd bounds neither how many leases a user has nor who ends one without keys.
func TestAnyUserGrantsLeases(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	user := w.as()
	for range 100 {
		w.allowed(granting(user))
	}
	must(t, grantAs(kit.Bounded(t, soon), user, 2345)) // with an id of its own choice
	for range 3 {
		empty := w.grant()
		w.allowed(asking(user, empty, clientv3.WithAttachedKeys()), renewing(user, empty), revoking(user, empty))
	}
}

func TestAnyUserSeesMembersAndTimesOfLeases(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	lease := w.grant()
	w.put(guardedKey+"/a", "10.0.0.1:80", clientv3.WithLease(lease))
	user := w.as()
	w.allowed(asking(user, lease), // whose id it knows
		attempt{"see the members", func(ctx context.Context) error { _, err := user.MemberList(ctx); return err }},
		attempt{"see etcd's state", func(ctx context.Context) error { _, err := user.Status(ctx, user.Endpoints()[0]); return err }},
		attempt{"see the alarms", func(ctx context.Context) error { _, err := user.AlarmList(ctx); return err }})
}

func TestAnyUserCannotTouchKeys(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	user := w.as()
	for _, k := range []string{guardedKey + "/a", "_grpc_config/" + guardedKey, "x"} {
		w.denied(touching(user, k)...)
	}
	w.denied(listing(user, "\x00", "\x00"), watching(user, "\x00", clientv3.WithFromKey()), getting(user, guardedKey, clientv3.WithPrefix(), clientv3.WithCountOnly()))
}

func TestAnyUserCannotTouchLeasesWithKeys(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	lease := w.grant()
	w.put(guardedKey+"/a", "10.0.0.1:80", clientv3.WithLease(lease))
	user := w.as()
	w.denied(revoking(user, lease), renewing(user, lease), asking(user, lease, clientv3.WithAttachedKeys()), listingLeases(user))
}

func TestAnyUserCannotRunTheCluster(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	w.denied(running(w.as())...)
	w.denied(running(w.as("greeter-caller", "greeter-operator"))...)
}

// grantedLease does something with each new lease before its owner hears of it.
type grantedLease struct {
	clientv3.Lease
	then func(clientv3.LeaseID)
}

func (g *grantedLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	granted, err := g.Lease.Grant(ctx, ttl)
	if err == nil {
		g.then(granted.ID)
	}
	return granted, err
}

// A lease is without keys between its grant and the first put, and its id can be guessed: etcd counts. Who ends it then
// holds the server up for a moment.
func TestAnyUserCannotKeepAServerOut(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	user, client := w.as(), w.as("greeter-server")
	var once sync.Once
	client.Lease = &grantedLease{client.Lease, func(id clientv3.LeaseID) { once.Do(func() { w.allowed(revoking(user, id)) }) }}
	began := time.Now()
	g, err := w.registry(client).Register(kit.Bounded(t, soon), guardedKey, runtime.Endpoint{Addr: "10.0.0.1:80"})
	must(t, err)
	t.Logf("registered after %v", time.Since(began))
	// From now on there is a key on it.
	w.denied(revoking(user, g.Status().LeaseID), renewing(user, g.Status().LeaseID))
}

func TestNobodyCannotDoAnything(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	lease := w.grant()
	nobody, err := clientv3.New(clientv3.Config{Endpoints: w.etcd.Endpoints(), Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { _ = nobody.Close() })
	for _, a := range slices.Concat(touching(nobody, guardedKey+"/a"), touching(nobody, "_grpc_config/"+guardedKey), running(nobody), []attempt{
		granting(nobody), revoking(nobody, lease), renewing(nobody, lease), asking(nobody, lease), listingLeases(nobody),
		{"see the members", func(ctx context.Context) error { _, err := nobody.MemberList(ctx); return err }},
	}) {
		if err := a.do(kit.Bounded(t, soon)); err == nil || !strings.Contains(err.Error(), "user name is empty") {
			t.Errorf("nobody may %s: %v", a.what, err)
		}
	}
}
