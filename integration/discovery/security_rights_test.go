package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// What etcd lets each role of the page do, and whoever has none.

func TestKeyWriterRights(t *testing.T) {
	w := newGuarded(t)
	writer := w.as("greeter-server")
	w.allowed(touching(writer, guardedKey+"/10.0.0.1:80")...)
	w.denied(touching(writer, "acme/other/x", guardedKey+"-admin/x", guardedKey+"2/x", guardedKey+"x", guardedKey, guardedConfig,
		"_grpc_config/acme/other", "prod/"+guardedKey+"/x")...)
	w.denied(listing(writer, "acme/", "acme0"), listing(writer, guardedKey, guardedKey+"0"), listing(writer, "\x00", "\x00"))

	// The leases of other services are out of reach, those of entries in any case. The session of one process may hold several
	// services on one lease: to write one of them is not enough.
	others, shared := w.grant(), w.grant()
	w.put("acme/other/x", "10.0.0.1:80", clientv3.WithLease(others))
	w.put("acme/other/y", "10.0.0.1:80", clientv3.WithLease(shared))
	w.put(guardedKey+"/y", "10.0.0.1:80", clientv3.WithLease(shared))
	for _, id := range []clientv3.LeaseID{others, shared} {
		w.denied(hanging(writer, guardedKey+"/x", id), asking(writer, id, clientv3.WithAttachedKeys()))
		w.denied(ending(writer, id)...)
	}
	w.denied(listingLeases(writer))

	// A dead server's entry can be kept.
	own := w.grant()
	w.put(guardedKey+"/dead", "10.0.0.1:80", clientv3.WithLease(own))
	w.allowed(asking(writer, own, clientv3.WithAttachedKeys()), hanging(writer, guardedKey+"/other", own), putting(writer, guardedKey+"/dead"))
	w.allowed(ending(writer, own)...)
	if w.get(guardedKey+"/dead") == nil {
		t.Error("the entry went with the lease that it no longer hangs on")
	}
}

func TestConfigWriterRights(t *testing.T) {
	w := newGuarded(t)
	writer := w.as("greeter-operator")
	w.allowed(touching(writer, guardedConfig)...)
	w.denied(putting(writer, guardedKey+"/x"), deleting(writer, guardedKey+"/x"))
	w.denied(touching(writer, guardedConfig+"2", guardedConfig+"/x", "_grpc_config/acme/other", "acme/other/x")...)
	w.denied(listing(writer, "_grpc_config/", "_grpc_config0"))
}

func TestReaderRights(t *testing.T) {
	w := newGuarded(t)
	lease := w.grant()
	w.put(guardedKey+"/a", "10.0.0.1:80", clientv3.WithLease(lease))
	w.put(guardedConfig, `{"methodConfig":[]}`)
	reader := w.as("greeter-caller")
	w.allowed(getting(reader, guardedKey+"/a"), watching(reader, guardedKey+"/", clientv3.WithPrefix()), getting(reader, guardedConfig),
		asking(reader, lease, clientv3.WithAttachedKeys()))
	for _, k := range []string{guardedKey + "/a", guardedKey + "/new", guardedConfig} {
		w.denied(putting(reader, k), deleting(reader, k))
	}
	w.denied(hanging(reader, guardedKey+"/b", lease))
	w.denied(ending(reader, lease)...)
	w.denied(touching(reader, guardedKey+"2/x", "acme/other/x", "_grpc_config/acme/other")...)
	_, err := w.newRegistry(reader).Register(kit.Bounded(t, soon), guardedKey, runtime.Endpoint{Addr: "10.6.6.6:80"})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the reader registers: %v", err)
	}
}

func TestAnyUserRights(t *testing.T) {
	w := newGuarded(t)
	lease := w.grant()
	w.put(guardedKey+"/a", "10.0.0.1:80", clientv3.WithLease(lease))
	user := w.as()
	// etcd bounds neither how many leases a user has nor who ends one without keys.
	for range 100 {
		w.allowed(granting(user))
	}
	must(t, grantAs(kit.Bounded(t, soon), user, 2345)) // with an id of its own choice
	empty := w.grant()
	w.allowed(asking(user, empty, clientv3.WithAttachedKeys()))
	w.allowed(ending(user, empty)...)
	w.allowed(asking(user, lease), // whose id it knows
		seeingMembers(user),
		attempt{"see etcd's state", func(ctx context.Context) error { _, err := user.Status(ctx, user.Endpoints()[0]); return err }},
		attempt{"see the alarms", func(ctx context.Context) error { _, err := user.AlarmList(ctx); return err }})

	w.denied(touching(user, guardedKey+"/a", guardedConfig, "x")...)
	w.denied(listing(user, "\x00", "\x00"), watching(user, "\x00", clientv3.WithFromKey()), getting(user, guardedKey, clientv3.WithPrefix(), clientv3.WithCountOnly()))
	w.denied(asking(user, lease, clientv3.WithAttachedKeys()), listingLeases(user))
	w.denied(ending(user, lease)...)
	w.denied(running(user)...)
	w.denied(running(w.as("greeter-caller", "greeter-operator"))...)
}

func TestNobodyCannotDoAnything(t *testing.T) {
	w := newGuarded(t)
	lease := w.grant()
	nobody, err := clientv3.New(clientv3.Config{Endpoints: w.etcd.Endpoints(), Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { _ = nobody.Close() })
	w.refused("user name is empty", slices.Concat(touching(nobody, guardedKey+"/a", guardedConfig), running(nobody), ending(nobody, lease),
		[]attempt{granting(nobody), asking(nobody, lease), listingLeases(nobody), seeingMembers(nobody)})...)
}

// The range of the lease suffix takes in keys that continue the service's with a digit. No range could leave them
// all out: any digit may begin a lease id.
func TestS9_TheSuffixRangeCoversNeighboursWithADigit(t *testing.T) {
	w := newGuarded(t)
	server := w.as("legacy-server")
	w.allowed(touching(server, legacy+"2/10.0.0.1:80", legacy+"/x", legacy+"7587869")...)
	w.denied(touching(server, legacy, legacy+"-admin/x", legacy+"x/y", legacy+".v2/x", legacy+"_2/x", "_grpc_config/"+legacy, guardedKey+"/x")...)
	w.denied(listing(server, legacy, legacy+":"), listing(server, "acme/", "acme0"))

	// Such a neighbour can be left out of what the servers may write, because its entries have a slash where a
	// lease id has a digit or ends.
	admin, ctx := w.etcd.Admin(), kit.Bounded(t, soon)
	must(t, command{"role", "add", "beside-2"}.run(ctx, admin))
	for _, keys := range [][2]string{{"/", "2/"}, {"20", ":"}} {
		must(t, command{"role", "grant-permission", "beside-2", "readwrite", legacy + keys[0], legacy + keys[1]}.run(ctx, admin))
	}
	server = w.as("beside-2")
	w.denied(touching(server, legacy+"2/10.0.0.1:80", legacy+"2/")...)
	for _, id := range []string{"1", "2", "20", "2000000000000000000", "29", "3", "9223372036854775807"} {
		w.allowed(putting(server, legacy+id), deleting(server, legacy+id))
	}
}

// A neighbour in the lease suffix itself cannot be told apart by ranges, nor by readers: who writes it may choose a
// lease id that makes an entry of either.
func TestS9_ANeighbourInTheSuffixForgesEntries(t *testing.T) {
	w := newGuarded(t)
	admin, ctx := w.etcd.Admin(), kit.Bounded(t, soon)
	must(t, command{"role", "add", "legacy2-server"}.run(ctx, admin))
	must(t, command{"role", "grant-permission", "legacy2-server", "readwrite", legacy + "2/", legacy + "2:"}.run(ctx, admin))
	neighbour := w.as("legacy2-server")
	must(t, grantAs(ctx, neighbour, 2345))
	w.allowed(hanging(neighbour, legacy+"2345", 2345))
	w.comes(w.watchAs(w.newRegistry(w.as("legacy-caller")), legacy, runtime.LeaseSuffix), "10.6.6.6:80")
}

// comes waits for a set that has the address.
func (w guarded) comes(sets <-chan []runtime.Endpoint, addr string) {
	w.t.Helper()
	ctx := kit.Bounded(w.t, soon)
	for {
		select {
		case set := <-sets:
			if slices.ContainsFunc(set, func(e runtime.Endpoint) bool { return e.Addr == addr }) {
				return
			}
		case <-ctx.Done():
			w.t.Fatalf("%s does not come", addr)
		}
	}
}

func TestRolesAreEnoughForTheLeaseSuffix(t *testing.T) {
	w := newGuarded(t)
	servers := w.newRegistry(w.as("legacy-server"))
	sets := w.watchAs(w.newRegistry(w.as("legacy-caller")), legacy, runtime.LeaseSuffix)
	for n := range 3 { // each on a lease of its own
		addr := fmt.Sprintf("10.0.0.%d:80", n)
		_, err := servers.Register(kit.Bounded(t, soon), legacy, runtime.Endpoint{Addr: addr}, runtime.WithLayouts(runtime.LeaseSuffix))
		must(t, err)
		w.comes(sets, addr)
	}
	// The slash layouts as well, for a migration.
	g, err := servers.Register(kit.Bounded(t, soon), legacy, runtime.Endpoint{Addr: "10.1.1.1:80"})
	must(t, err)
	must(t, g.Close(kit.Bounded(t, soon)))
	if n := w.logs.Count("denied"); n > 0 {
		t.Errorf("something was refused: %s", w.logs.Lines())
	}
}

// A lease id begins with 15 bits of the member that grants it, so any digit but 0 may come first. The rest is a clock
// that counts on, so that the next one can be guessed.
func TestLeaseIDs(t *testing.T) {
	w := newGuarded(t)
	members, err := w.etcd.Admin().MemberList(kit.Bounded(t, soon))
	must(t, err)
	member := int64(members.Members[0].ID & 0x7FFF)
	last := int64(w.grant())
	for range 20 {
		id := int64(w.grant())
		if id>>48 != member || id <= last || id > last+100 {
			t.Errorf("after %x, the member %x gave the lease id %x", last, member, id)
		}
		last = id
	}
	first := make(map[byte]bool)
	for bits := range int64(1 << 15) {
		first[strconv.FormatInt(bits<<48+last&(1<<48-1), 10)[0]] = true
	}
	if len(first) != 9 || first['0'] {
		t.Errorf("the first digits of lease ids are %q", slices.Collect(maps.Keys(first)))
	}
}
