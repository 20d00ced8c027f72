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

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// What each role of docs/security.md may do in etcd.

// TestRolesAreEnough runs a server, a caller and an operator of a service, and
// a server and a caller of another service, in the lease suffix layout. Each of
// them has an etcd user of its own, with only one role, such as greeter-server.
func TestRolesAreEnough(t *testing.T) {
	w := newGuarded(t)
	as := func(role string) *runtime.Registry { return w.newRegistry(w.as(role)) }
	w.announced(as("greeter-server"), greeterAt(guardedKey))
	callers := as("greeter-caller")
	conn := dial(t, callers, greeterAt(guardedKey))
	reached(t, conn, "server")

	if set := <-w.watchAs(callers, guardedKey); ids(set) != "server" {
		t.Errorf("Watch of the caller yields %v, want the endpoint \"server\"", set)
	}

	// The operator's config has a timeout that no call can meet.
	kit.Must(t, as("greeter-operator").SetServiceConfig(kit.Context(t), guardedKey,
		`{"methodConfig":[{"name":[{}],"timeout":"0.000000001s"}]}`))
	kit.Eventually(t, "the live config is in force", func() bool {
		_, err := once(conn)
		return status.Code(err) == codes.DeadlineExceeded
	})

	sets := w.watchAs(as("legacy-caller"), legacy, runtime.LeaseSuffix)
	await(t, sets, "")
	_, err := as("legacy-server").Register(kit.Context(t), legacy,
		runtime.Endpoint{Addr: "10.0.0.1:80"}, runtime.WithLayouts(runtime.LeaseSuffix))
	kit.Must(t, err)
	await(t, sets, "10.0.0.1:80")

	if n := w.logs.Count("permission denied"); n > 0 {
		t.Errorf("%d log lines about denied requests, want none: %s", n, w.logs.Lines())
	}
}

func TestKeyWriterRights(t *testing.T) {
	w := newGuarded(t)
	writer := w.as("greeter-server")
	w.allowed(touching(writer, guardedKey+"/10.0.0.1:80")...)
	w.denied(touching(writer, "acme/other/x", guardedKey+"-admin/x", guardedKey+
		"2/x", guardedKey+"x", guardedKey, guardedConfig,
		"_grpc_config/acme/other", "prod/"+guardedKey+"/x")...)
	w.denied(listing(writer, "acme/", "acme0"), listing(writer, guardedKey, guardedKey+"0"),
		listing(writer, "\x00", "\x00"))

	// A writer of one service cannot end a lease that holds a key of another
	// service, even if the lease also holds keys of its own service.
	others := w.grant()
	shared := w.grant()
	w.put("acme/other/x", "10.0.0.1:80", clientv3.WithLease(others))
	w.put("acme/other/y", "10.0.0.1:80", clientv3.WithLease(shared))
	w.put(guardedKey+"/y", "10.0.0.1:80", clientv3.WithLease(shared))

	for _, id := range []clientv3.LeaseID{others, shared} {
		w.denied(hanging(writer, guardedKey+"/x", id),
			asking(writer, id, clientv3.WithAttachedKeys()))
		w.denied(ending(writer, id)...)
	}

	w.denied(attempt{"list the leases", func(ctx context.Context) error {
		_, err := writer.Leases(ctx)
		return err
	}})

	// A writer can put the entry of a dead server again, without a lease.
	own := w.grant()
	w.put(guardedKey+"/dead", "10.0.0.1:80", clientv3.WithLease(own))
	w.allowed(asking(writer, own, clientv3.WithAttachedKeys()),
		hanging(writer, guardedKey+"/other", own), putting(writer, guardedKey+"/dead"))
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
	w.denied(touching(writer, guardedConfig+"2", guardedConfig+"/x", "_grpc_config/acme/other",
		"acme/other/x")...)
	w.denied(listing(writer, "_grpc_config/", "_grpc_config0"))
}

func TestReaderRights(t *testing.T) {
	w := newGuarded(t)
	lease := w.grant()
	w.put(guardedKey+"/a", "10.0.0.1:80", clientv3.WithLease(lease))
	w.put(guardedConfig, `{"methodConfig":[]}`)
	reader := w.as("greeter-caller")
	w.allowed(getting(reader, guardedKey+"/a"), watching(reader, guardedKey+"/",
		clientv3.WithPrefix()), getting(reader, guardedConfig),
		asking(reader, lease, clientv3.WithAttachedKeys()))

	for _, k := range []string{guardedKey + "/a", guardedKey + "/new", guardedConfig} {
		w.denied(putting(reader, k), deleting(reader, k))
	}

	w.denied(hanging(reader, guardedKey+"/b", lease))
	w.denied(ending(reader, lease)...)
	w.denied(touching(reader, guardedKey+"2/x", "acme/other/x", "_grpc_config/acme/other")...)

	_, err := w.newRegistry(reader).Register(kit.Context(t), guardedKey,
		runtime.Endpoint{Addr: "10.6.6.6:80"})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Register as the reader: %v, want permission denied", err)
	}
}

// In the lease suffix layout, a role for acme/legacy also allows keys of
// acme/legacy2: a lease id, which follows the service's key, may begin with any
// digit.
func TestLeaseSuffix_RangeCoversNeighboursWithADigit(t *testing.T) {
	w := newGuarded(t)
	server := w.as("legacy-server")
	w.allowed(touching(server, legacy+"2/10.0.0.1:80", legacy+"/x", legacy+"7587869")...)
	w.denied(touching(server, legacy, legacy+"-admin/x", legacy+"x/y", legacy+".v2/x",
		legacy+"_2/x", "_grpc_config/"+legacy, guardedKey+"/x")...)
	w.denied(listing(server, legacy, legacy+":"), listing(server, "acme/", "acme0"))

	// A role can allow the lease ids that begin with 2 and exclude
	// acme/legacy2, whose keys have a slash after the 2.
	server = w.as("legacy-server-beside-2")
	w.denied(touching(server, legacy+"2/10.0.0.1:80", legacy+"2/")...)

	for _, id := range []string{"1", "2", "20", "2000000000000000000", "29", "3",
		"9223372036854775807"} {
		w.allowed(putting(server, legacy+id), deleting(server, legacy+id))
	}
}

// bait listens on a host, and counts the connections to its address.
func (w guarded) bait(host string) (addr string, dialed *atomic.Int64) {
	w.t.Helper()

	lis, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	kit.Must(w.t, err)
	dialed = new(atomic.Int64)
	kit.Serve(w.t, grpc.NewServer(), counting{lis, dialed})

	return lis.Addr().String(), dialed
}

// With WithAllowedAddresses, an entry with any other address, in every layout
// and spelling, is skipped and counted.
func TestAllowedAddresses(t *testing.T) {
	w := newGuarded(t)

	// 127.0.0.1 stands for the allowed network, 127.0.0.9 for a forbidden one.
	bait, dialed := w.bait("127.0.0.9")
	_, port, err := net.SplitHostPort(bait)
	kit.Must(t, err)
	w.enter("honest", w.serve("honest").addr)

	outside := []string{
		bait, "localhost:" + port, fmt.Sprintf(
			`{"Addr":%q}`, bait), fmt.Sprintf(`{"endpoints":["grpc://%s"]}`, bait),
		fmt.Sprintf(`{"network":"tcp","address":%q}`, bait), "[::ffff:127.0.0.9]:" +
			port, "127.9:" + port, "0177.0.0.1:" + port,
	}
	for i, value := range outside {
		w.enter(fmt.Sprintf("evil-%d", i), value)
	}

	reader := metric.NewManualReader()
	registry := w.newRegistry(w.as("greeter-caller"), metered(reader),
		runtime.WithAllowedAddresses(netip.MustParsePrefix("10.0.0.0/8")),
		runtime.WithAllowedAddresses(netip.MustParsePrefix("127.0.0.1/32"))) // each option adds a prefix
	if set := <-w.watchAs(registry, guardedKey); ids(set) != "honest" {
		t.Errorf("Watch yields %v, want the endpoint \"honest\" alone", set)
	}

	client := dial(t, registry, greeterAt(guardedKey))
	reached(t, client, "honest")
	reached(t, w.bare(registry, "etcd:///"+guardedKey), "honest")

	if _, err := call(runtime.WithTarget(kit.Context(t), "evil-0"), client); err == nil {
		t.Error("a call to evil-0, whose address is not allowed, succeeded, want an error")
	}

	if n := dialed.Load(); n > 0 {
		t.Errorf("%d connections to an address that is not allowed, want none", n)
	}

	got, _ := value(t, reader, "etcdrpc.discovery.malformed_values")
	if int(got) != len(outside) {
		t.Errorf("%v skipped entries, want %d", got, len(outside))
	}

	// The log has the keys of the first two entries, and why they were skipped.
	for entry, why := range []string{"none of the prefixes of WithAllowedAddresses",
		"a name may resolve to any address"} {
		if !slices.ContainsFunc(w.logs.Lines(), func(line string) bool {
			return strings.Contains(line, fmt.Sprintf("%s/evil-%d ", guardedKey, entry)) &&
				strings.Contains(line, why)
		}) {
			t.Errorf("got the log lines %s, want one for evil-%d with %q", w.logs.Lines(), entry,
				why)
		}
	}
}
