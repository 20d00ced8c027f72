package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// What each role of docs/security.md, and a user without a role, may do in etcd, and which calls this changes.

// TestRolesAreEnough runs a server, a caller and an operator of a service. The etcd user of each has the role of that name alone.
func TestRolesAreEnough(t *testing.T) {
	w := newGuarded(t)
	as := func(role string) *runtime.Registry { return w.newRegistry(w.as(role)) }
	w.announced(as("greeter-server"), greeterAt(guardedKey))
	callers := as("greeter-caller")
	conn := dial(t, callers, greeterAt(guardedKey))
	reached(t, conn, kit.Soon, "server")
	if set := <-w.watchAs(callers, guardedKey); ids(set) != "server" {
		t.Errorf("Watch of the caller yields %v, want the endpoint \"server\"", set)
	}
	// The operator's config has a timeout that no call can meet.
	kit.Must(t, as("greeter-operator").SetServiceConfig(kit.Bounded(t, kit.Soon), guardedKey, `{"methodConfig":[{"name":[{}],"timeout":"0.000000001s"}]}`))
	kit.Eventually(t, kit.Soon, "the live config is in force", func() bool {
		_, err := within(conn, kit.Soon)
		return status.Code(err) == codes.DeadlineExceeded
	})
	if n := w.logs.Count("permission denied"); n > 0 {
		t.Errorf("%d log lines about denied requests, want none: %s", n, w.logs.Lines())
	}
}

// caller returns a connection to the greeter. Its etcd client has the callers' role.
func (w guarded) caller() *grpc.ClientConn {
	w.t.Helper()
	return dial(w.t, w.newRegistry(w.as("greeter-caller")), greeterAt(guardedKey))
}

func TestKeyWriterRights(t *testing.T) {
	w := newGuarded(t)
	writer := w.as("greeter-server")
	w.allowed(touching(writer, guardedKey+"/10.0.0.1:80")...)
	w.denied(touching(writer, "acme/other/x", guardedKey+"-admin/x", guardedKey+"2/x", guardedKey+"x", guardedKey, guardedConfig,
		"_grpc_config/acme/other", "prod/"+guardedKey+"/x")...)
	w.denied(listing(writer, "acme/", "acme0"), listing(writer, guardedKey, guardedKey+"0"), listing(writer, "\x00", "\x00"))

	// A writer of one service cannot end a lease that holds a key of another service, even if the lease also
	// holds keys of its own service.
	others, shared := w.grant(), w.grant()
	w.put("acme/other/x", "10.0.0.1:80", clientv3.WithLease(others))
	w.put("acme/other/y", "10.0.0.1:80", clientv3.WithLease(shared))
	w.put(guardedKey+"/y", "10.0.0.1:80", clientv3.WithLease(shared))
	for _, id := range []clientv3.LeaseID{others, shared} {
		w.denied(hanging(writer, guardedKey+"/x", id), asking(writer, id, clientv3.WithAttachedKeys()))
		w.denied(ending(writer, id)...)
	}
	w.denied(listingLeases(writer))

	// A writer can put the entry of a dead server again, without a lease.
	own := w.grant()
	w.put(guardedKey+"/dead", "10.0.0.1:80", clientv3.WithLease(own))
	w.allowed(asking(writer, own, clientv3.WithAttachedKeys()), hanging(writer, guardedKey+"/other", own), putting(writer, guardedKey+"/dead"))
	w.allowed(ending(writer, own)...)
	if w.get(guardedKey+"/dead") == nil {
		t.Error("the entry was deleted when its former lease was revoked, want it in etcd")
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
	_, err := w.newRegistry(reader).Register(kit.Bounded(t, kit.Soon), guardedKey, runtime.Endpoint{Addr: "10.6.6.6:80"})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Register as the reader: %v, want permission denied", err)
	}
}

func TestAnyUserRights(t *testing.T) {
	w := newGuarded(t)
	lease := w.grant()
	w.put(guardedKey+"/a", "10.0.0.1:80", clientv3.WithLease(lease))
	user := w.as()
	// Every user may grant any number of leases and revoke leases without keys.
	for range 100 {
		w.allowed(granting(user))
	}
	kit.Must(t, grantAs(kit.Bounded(t, kit.Soon), user, 2345)) // grants a lease whose id the user chose
	empty := w.grant()
	w.allowed(asking(user, empty, clientv3.WithAttachedKeys()))
	w.allowed(ending(user, empty)...)
	w.allowed(asking(user, lease), // allowed to all who know the lease id
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

func TestNoUser_IsDenied(t *testing.T) {
	w := newGuarded(t)
	lease := w.grant()
	nobody, err := clientv3.New(clientv3.Config{Endpoints: w.etcd.Endpoints(), Logger: zap.NewNop()})
	kit.Must(t, err)
	t.Cleanup(func() { _ = nobody.Close() })
	w.refused("user name is empty", slices.Concat(touching(nobody, guardedKey+"/a", guardedConfig), running(nobody), ending(nobody, lease),
		[]attempt{granting(nobody), asking(nobody, lease), listingLeases(nobody), seeingMembers(nobody)})...)
}

// In the lease suffix layout, a role for acme/legacy also allows keys of acme/legacy2: a lease id, which follows
// the service's key, may begin with any digit.
func TestLeaseSuffix_RangeCoversNeighboursWithADigit(t *testing.T) {
	w := newGuarded(t)
	server := w.as("legacy-server")
	w.allowed(touching(server, legacy+"2/10.0.0.1:80", legacy+"/x", legacy+"7587869")...)
	w.denied(touching(server, legacy, legacy+"-admin/x", legacy+"x/y", legacy+".v2/x", legacy+"_2/x", "_grpc_config/"+legacy, guardedKey+"/x")...)
	w.denied(listing(server, legacy, legacy+":"), listing(server, "acme/", "acme0"))

	// A role can allow the lease ids that begin with 2 and exclude acme/legacy2, whose keys have a slash
	// after the 2.
	server = w.as("legacy-server-beside-2")
	w.denied(touching(server, legacy+"2/10.0.0.1:80", legacy+"2/")...)
	for _, id := range []string{"1", "2", "20", "2000000000000000000", "29", "3", "9223372036854775807"} {
		w.allowed(putting(server, legacy+id), deleting(server, legacy+id))
	}
}

// In the lease suffix layout, a writer of acme/legacy2 can put acme/legacy2345 on the lease 2345, and so forge an
// entry of acme/legacy. Neither the roles nor readers can prevent that.
func TestLeaseSuffix_ANeighbourForgesEntries(t *testing.T) {
	w := newGuarded(t)
	sets := w.watchAs(w.newRegistry(w.as("legacy-caller")), legacy, runtime.LeaseSuffix)
	_, err := w.newRegistry(w.as("legacy-server")).Register(kit.Bounded(t, kit.Soon), legacy, runtime.Endpoint{Addr: "10.0.0.1:80"}, runtime.WithLayouts(runtime.LeaseSuffix))
	kit.Must(t, err)
	comes := func(addr string) {
		t.Helper()
		kit.Eventually(t, kit.Soon, addr+" comes", func() bool {
			return slices.ContainsFunc(<-sets, func(e runtime.Endpoint) bool { return e.Addr == addr })
		})
	}
	comes("10.0.0.1:80")
	w.etcdctl("role add legacy2-server")
	w.etcdctl("role grant-permission legacy2-server readwrite " + legacy + "2/ " + legacy + "2:")
	neighbour := w.as("legacy2-server")
	kit.Must(t, grantAs(kit.Bounded(t, kit.Soon), neighbour, 2345))
	w.allowed(hanging(neighbour, legacy+"2345", 2345))
	comes("10.6.6.6:80")
}

// bait listens on a host, and counts the connections to its address.
func (w guarded) bait(host string) (addr string, dialed *atomic.Int64) {
	w.t.Helper()
	lis, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	kit.Must(w.t, err)
	dialed = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			dialed.Add(1)
			_ = conn.Close()
		}
	}()
	w.t.Cleanup(func() { _ = lis.Close(); <-done })
	return lis.Addr().String(), dialed
}

// A writer of entries can redirect calls, if callers do not use TLS.
func TestKeyWriterDirectsCalls(t *testing.T) {
	w := newGuarded(t)
	a, b := w.serve("a").addr, w.serve("b").addr
	w.enter("a", a)
	conn := w.caller()
	reached(t, conn, kit.Soon, "a")
	w.enter("a", w.serve("evil").addr)
	reached(t, conn, kit.Soon, "evil")
	w.enter("a", a)
	w.enter("b", b)
	reached(t, conn, kit.Soon, "a", "b")
	// An entry gets no calls if its metadata mark it as leaving, or name other methods.
	for _, tt := range []struct{ out, in string }{
		{`{"grpc_leaving":"true"}`, `{}`},
		{`{"grpc_methods":"basic.Greeter/Other"}`, `{"grpc_methods":"basic.Greeter/Other,SayHello"}`},
	} {
		w.enter("a", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, a, tt.out))
		w.enter("b", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, b, tt.in))
		reached(t, conn, kit.Soon, "b")
		w.enter("b", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, b, tt.out))
		w.enter("a", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, a, tt.in))
		reached(t, conn, kit.Soon, "a")
	}
	addr, dialed := w.bait("127.0.0.1")
	w.enter("a", addr)
	kit.Eventually(t, kit.Soon, "the caller connects to a server that is no greeter", func() bool {
		_, _ = within(conn, time.Second)
		return dialed.Load() > 0
	})
}

// A writer of live configs can make calls be repeated, or wait until their deadline.
func TestConfigWriterChangesCalls(t *testing.T) {
	w := newGuarded(t)
	live := func(config string) {
		t.Helper()
		// SetServiceConfig checks configs; a Put with the same etcd user does not.
		_, err := w.as("greeter-operator").Put(kit.Bounded(t, kit.Soon), guardedConfig, config)
		kit.Must(t, err)
	}
	var calls atomic.Int64
	s := w.start(&server{do: func(context.Context) error {
		calls.Add(1)
		return status.Error(codes.Internal, "the call was executed")
	}})
	w.enter("a", s.addr)
	conn := w.caller()
	live(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["INTERNAL"]}}]}`)
	kit.Eventually(t, kit.Soon, "a call is made 5 times", func() bool {
		calls.Store(0)
		_, err := within(conn, kit.Soon)
		return status.Code(err) == codes.Internal && calls.Load() == 5
	})
	s.stop()
	kit.Eventually(t, kit.Soon, "calls fail at once", func() bool {
		_, err := within(conn, kit.Soon)
		return status.Code(err) == codes.Unavailable
	})
	live(`{"methodConfig":[{"name":[{}],"waitForReady":true}]}`)
	kit.Eventually(t, kit.Soon, "calls wait until their deadline", func() bool {
		_, err := within(conn, 100*time.Millisecond)
		return status.Code(err) == codes.DeadlineExceeded
	})
}

// A live config can make all calls fail, by a health check of a service that no server knows.
func TestConfigWriterChecksHealth(t *testing.T) {
	w := newGuarded(t)
	w.announced(w.newRegistry(w.as("greeter-server")), greeterAt(guardedKey))
	conn := w.caller()
	reached(t, conn, kit.Soon, "server")
	_, err := w.as("greeter-operator").Put(kit.Bounded(t, kit.Soon), guardedConfig, `{"healthCheckConfig":{"serviceName":"nobody"}}`)
	kit.Must(t, err)
	kit.Eventually(t, kit.Soon, "calls fail at once", func() bool {
		_, err := within(conn, kit.Soon)
		return status.Code(err) == codes.Unavailable
	})
}

// With WithAllowedAddresses, an entry with any other address, in every layout and spelling, is skipped and counted.
func TestAllowedAddresses(t *testing.T) {
	w := newGuarded(t)
	// 127.0.0.1 stands for the allowed network, 127.0.0.9 for a forbidden one.
	bait, dialed := w.bait("127.0.0.9")
	_, port, err := net.SplitHostPort(bait)
	kit.Must(t, err)
	w.enter("honest", w.serve("honest").addr)
	outside := []string{
		bait, "localhost:" + port, fmt.Sprintf(`{"Addr":%q}`, bait), fmt.Sprintf(`{"endpoints":["grpc://%s"]}`, bait),
		fmt.Sprintf(`{"network":"tcp","address":%q}`, bait), "[::ffff:127.0.0.9]:" + port, "127.9:" + port, "0177.0.0.1:" + port,
	}
	for i, value := range outside {
		w.enter(fmt.Sprintf("evil-%d", i), value)
	}
	reader := metric.NewManualReader()
	registry := w.newRegistry(w.as("greeter-caller"), metered(reader),
		runtime.WithAllowedAddresses(netip.MustParsePrefix("10.0.0.0/8")), runtime.WithAllowedAddresses(netip.MustParsePrefix("127.0.0.1/32"))) // each option adds a prefix
	if set := <-w.watchAs(registry, guardedKey); ids(set) != "honest" {
		t.Errorf("Watch yields %v, want the endpoint \"honest\" alone", set)
	}
	client := dial(t, registry, greeterAt(guardedKey))
	reached(t, client, kit.Soon, "honest")
	reached(t, w.bare(registry, "etcd:///"+guardedKey), kit.Soon, "honest")
	if _, err := call(runtime.WithTarget(kit.Bounded(t, kit.Soon), "evil-0"), client); err == nil {
		t.Error("a call to evil-0, whose address is not allowed, succeeded, want an error")
	}
	if n := dialed.Load(); n > 0 {
		t.Errorf("%d connections to an address that is not allowed, want none", n)
	}
	if got, _ := value(t, reader, "etcdrpc.discovery.malformed_values"); int(got) != len(outside) {
		t.Errorf("%v skipped entries, want %d", got, len(outside))
	}
	// The log has the keys of the first two entries, and why they were skipped.
	for entry, why := range []string{"none of the allowed prefixes", "a name may resolve to any address"} {
		if !slices.ContainsFunc(w.logs.Lines(), func(line string) bool {
			return strings.Contains(line, fmt.Sprintf("%s/evil-%d ", guardedKey, entry)) && strings.Contains(line, why)
		}) {
			t.Errorf("got the log lines %s, want one for evil-%d with %q", w.logs.Lines(), entry, why)
		}
	}
}
