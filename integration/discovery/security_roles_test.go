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

	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestRolesAreEnough runs a server, a caller and an operator of a service, each with its role alone.
func TestRolesAreEnough(t *testing.T) {
	w := newGuarded(t)
	as := func(role string) *runtime.Registry { return w.newRegistry(w.as(role)) }
	w.announced(as("greeter-server"), greeterAt(guardedKey))
	callers := as("greeter-caller")
	conn := dial(t, callers, greeterAt(guardedKey))
	reached(t, conn, soon, "server")
	if set := <-w.watchAs(callers, guardedKey); ids(set) != "server" {
		t.Errorf("the caller's Watch yields %v, want the server", set)
	}
	// The operator's config is in force once it fails the calls.
	must(t, as("greeter-operator").SetServiceConfig(kit.Bounded(t, soon), guardedKey, `{"methodConfig":[{"name":[{}],"timeout":"0.000000001s"}]}`))
	kit.Eventually(t, soon, "the caller goes by the live config", func() bool {
		_, err := within(conn, soon)
		return status.Code(err) == codes.DeadlineExceeded
	})
	if n := w.logs.Count("permission denied"); n > 0 {
		t.Errorf("something was refused: %s", w.logs.Lines())
	}
}

// bait listens for connections that nobody should make.
func (w guarded) bait(host string) (addr string, dialed *atomic.Int64) {
	w.t.Helper()
	lis, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	must(w.t, err)
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

// TestKeyWriterDirectsCalls has whoever may write entries decide where calls go, in plaintext.
func TestKeyWriterDirectsCalls(t *testing.T) {
	w := newGuarded(t)
	a, b := w.serve("a").addr, w.serve("b").addr
	w.enter("a", a)
	conn := w.caller()
	reached(t, conn, soon, "a")
	w.enter("a", w.serve("evil").addr)
	reached(t, conn, soon, "evil")
	w.enter("a", a)
	w.enter("b", b)
	reached(t, conn, soon, "a", "b")
	// The mark of leaving and the list of methods are an entry's own words, and so are weight, zone and version.
	for _, tt := range []struct{ out, in string }{
		{`{"grpc_leaving":"true"}`, `{}`},
		{`{"grpc_methods":"basic.Greeter/Other"}`, `{"grpc_methods":"basic.Greeter/Other,SayHello"}`},
	} {
		w.enter("a", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, a, tt.out))
		w.enter("b", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, b, tt.in))
		reached(t, conn, soon, "b")
		w.enter("b", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, b, tt.out))
		w.enter("a", fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, a, tt.in))
		reached(t, conn, soon, "a")
	}
	addr, dialed := w.bait("127.0.0.1")
	w.enter("a", addr)
	kit.Eventually(t, soon, "the caller connects to what is no server of the service", func() bool {
		_, _ = within(conn, time.Second)
		return dialed.Load() > 0
	})
}

// TestConfigWriterChangesCalls has whoever may write a live config repeat calls that have failed, and make them wait.
func TestConfigWriterChangesCalls(t *testing.T) {
	w := newGuarded(t)
	live := func(config string) {
		t.Helper()
		// It goes around the checks of SetServiceConfig, which are the caller's.
		_, err := w.as("greeter-operator").Put(kit.Bounded(t, soon), guardedConfig, config)
		must(t, err)
	}
	var calls atomic.Int64
	s := w.start(&server{do: func(context.Context) error {
		calls.Add(1)
		return status.Error(codes.Internal, "done all the same")
	}})
	w.enter("a", s.addr)
	conn := w.caller()
	live(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["INTERNAL"]}}]}`)
	kit.Eventually(t, soon, "a call is made 5 times", func() bool {
		calls.Store(0)
		_, err := within(conn, soon)
		return status.Code(err) == codes.Internal && calls.Load() == 5
	})
	s.stop()
	kit.Eventually(t, soon, "calls fail at once", func() bool {
		_, err := within(conn, soon)
		return status.Code(err) == codes.Unavailable
	})
	live(`{"methodConfig":[{"name":[{}],"waitForReady":true}]}`)
	kit.Eventually(t, soon, "calls wait for as long as they may", func() bool {
		_, err := within(conn, 100*time.Millisecond)
		return status.Code(err) == codes.DeadlineExceeded
	})
}

// TestConfigWriterChecksHealth has whoever may write a live config fail all calls, by a service that no server knows.
func TestConfigWriterChecksHealth(t *testing.T) {
	w := newGuarded(t)
	w.announced(w.newRegistry(w.as("greeter-server")), greeterAt(guardedKey))
	conn := w.caller()
	reached(t, conn, soon, "server")
	_, err := w.as("greeter-operator").Put(kit.Bounded(t, soon), guardedConfig, `{"healthCheckConfig":{"serviceName":"nobody"}}`)
	must(t, err)
	kit.Eventually(t, soon, "calls fail at once", func() bool {
		_, err := within(conn, soon)
		return status.Code(err) == codes.Unavailable
	})
}

// Loopback has many addresses, so one may stand for the fleet's network and another for what is not to be dialed.
const (
	inside  = "127.0.0.1"
	outside = "127.0.0.9"
)

// outsiders puts entries that lead outside of the fleet, in each layout and spelling, and returns how many.
func (w guarded) outsiders(addr string) int {
	w.t.Helper()
	_, port, err := net.SplitHostPort(addr)
	must(w.t, err)
	values := []string{
		addr,
		"localhost:" + port,
		fmt.Sprintf(`{"Addr":%q}`, addr),
		fmt.Sprintf(`{"endpoints":["grpc://%s"]}`, addr),
		fmt.Sprintf(`{"network":"tcp","address":%q}`, addr),
		"[::ffff:" + outside + "]:" + port,
		"127.9:" + port,
		"0177.0.0.1:" + port,
	}
	for i, value := range values {
		w.enter(fmt.Sprintf("evil-%d", i), value)
	}
	return len(values)
}

func allowing(prefix string) runtime.Option {
	return runtime.WithAllowedAddresses(netip.MustParsePrefix(prefix))
}

func TestAllowedAddresses(t *testing.T) {
	w := newGuarded(t)
	bait, dialed := w.bait(outside)
	w.enter("honest", w.serve("honest").addr)
	n := w.outsiders(bait)
	reader := metric.NewManualReader()
	registry := w.newRegistry(w.as("greeter-caller"), allowing("10.0.0.0/8"), allowing(inside+"/32"), // which add up
		metered(reader))

	if set := <-w.watchAs(registry, guardedKey); ids(set) != "honest" {
		t.Errorf("Watch yields %v, want the honest one alone", set)
	}
	client := dial(t, registry, greeterAt(guardedKey))
	instances, err := registry.NewInstances(greeterAt(guardedKey), insecurely)
	must(t, err)
	bare := w.bare(registry, "etcd:///"+guardedKey)
	for range 50 {
		for how, conn := range map[string]*grpc.ClientConn{"NewClient": client, "Resolver": bare} {
			if got, err := within(conn, soon); err != nil || got != "honest" {
				t.Fatalf("%s: a call reached %q, %v", how, got, err)
			}
		}
	}
	if names, err := ask(kit.Bounded(t, soon), instances); err != nil || strings.Join(names, " ") != "honest" {
		t.Errorf("Each called %q, %v", names, err)
	}
	if _, err := call(runtime.WithTarget(kit.Bounded(t, soon), "evil-0"), client); err == nil {
		t.Error("a call reached an instance that is not allowed, by its name")
	}
	if n := dialed.Load(); n > 0 {
		t.Errorf("%d connections to an address that is not allowed", n)
	}
	if got, _ := value(t, reader, "etcdrpc.discovery.malformed_values"); int(got) != n {
		t.Errorf("%v entries are counted as skipped, want %d", got, n)
	}
	// Those that are logged, which are not all, have their key and the reason.
	for entry, why := range []string{"none of the allowed prefixes", "a name may lead anywhere"} {
		if !slices.ContainsFunc(w.logs.Lines(), func(line string) bool {
			return strings.Contains(line, fmt.Sprintf("%s/evil-%d ", guardedKey, entry)) && strings.Contains(line, why)
		}) {
			t.Errorf("no line says of entry %d: %s: %s", entry, why, w.logs.Lines())
		}
	}
}
