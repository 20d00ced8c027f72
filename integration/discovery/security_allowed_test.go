package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func allowing(prefixes ...string) runtime.Option {
	parsed := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		parsed[i] = netip.MustParsePrefix(p)
	}
	return runtime.WithAllowedAddresses(parsed...)
}

// Loopback has many addresses, so one may stand for the fleet's network and another for what is not to be dialed.
const (
	inside  = "127.0.0.1"
	outside = "127.0.0.9"
)

// outsiders puts entries that lead outside of the fleet, in each layout and spelling, and returns how many.
func (w *guarded) outsiders(addr string) int {
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
	writer := w.as("greeter-server")
	for i, value := range values {
		w.write(writer, fmt.Sprintf("evil-%d", i), value)
	}
	return len(values)
}

func TestAllowedAddresses(t *testing.T) {
	w := newGuarded(t)
	bait, dialed := w.bait(outside)
	w.register("honest", w.serve(&greeter{name: "honest"}))
	n := w.outsiders(bait)
	reader := metric.NewManualReader()
	registry := w.registry(w.as("greeter-caller"), allowing("10.0.0.0/8"), allowing(inside+"/32"), // which add up
		runtime.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))

	if set := <-w.follow(registry, guardedKey); len(set) != 1 || set[0].Instance != "honest" {
		t.Errorf("Watch yields %v, want the honest one alone", set)
	}
	client := w.client(registry)
	instances, err := registry.NewInstances(greeterAt(guardedKey), insecurely)
	must(t, err)
	defer instances.Close()
	bare, err := grpc.NewClient("etcd:///"+guardedKey, grpc.WithResolvers(registry.Resolver()), insecurely,
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	must(t, err)
	defer bare.Close()
	for range 50 {
		for how, c := range map[string]basic.GreeterClient{"NewClient": client, "Resolver": basic.NewGreeterClient(bare)} {
			if got, err := greet(t, c, soon); err != nil || got != "honest" {
				t.Fatalf("%s: a call reached %q, %v", how, got, err)
			}
		}
	}
	called := 0
	must(t, runtime.Each(kit.Bounded(t, soon), instances, basic.NewGreeterClient, func(ctx context.Context, _ runtime.Endpoint, c basic.GreeterClient) error {
		called++
		_, err := c.SayHello(ctx, &basic.HelloRequest{})
		return err
	}))
	if called != 1 {
		t.Errorf("Each called %d instances", called)
	}
	if _, err := greet(t, basic.NewGreeterClient(bare), soon); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(runtime.WithTarget(t.Context(), "evil-0"), time.Second)
	defer cancel()
	if _, err := client.SayHello(ctx, &basic.HelloRequest{}); err == nil {
		t.Error("a call reached an instance that is not allowed, by its name")
	}
	if n := dialed.Load(); n > 0 {
		t.Errorf("%d connections to an address that is not allowed", n)
	}
	if got := skipped(t, reader); got != n {
		t.Errorf("%d entries are counted as skipped, want %d", got, n)
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

// skipped returns how many entries are counted as malformed.
func skipped(t *testing.T, reader *metric.ManualReader) (n int) {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "etcdrpc.discovery.malformed_values" {
				for _, point := range sum.DataPoints {
					n += int(point.Value)
				}
			}
		}
	}
	return n
}

// An entry that moves outside is not followed there. It counts as vanished, so its last address is held.
func TestAllowedAddressesWhenAnEntryMoves(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	bait, dialed := w.bait(outside)
	w.register("honest", w.serve(&greeter{name: "honest"}))
	client := w.client(w.registry(w.as("greeter-caller"), allowing(inside+"/32")))
	w.reaches(client, "honest")
	w.write(w.as("greeter-server"), "honest", bait)
	kit.Eventually(t, soon, "the entry is skipped", func() bool { return w.logs.Count("is not allowed") > 0 })
	w.reaches(client, "honest")
	if n := dialed.Load(); n > 0 {
		t.Errorf("%d connections to an address that is not allowed", n)
	}
}

// The file of a snapshot may be of a process without the filter, or with another.
func TestAllowedAddressesFromTheSnapshot(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	dir := t.TempDir()
	bait, dialed := w.bait(outside)
	w.register("honest", w.serve(&greeter{name: "honest"}))
	w.register("evil", bait)
	caller := w.as("greeter-caller")
	first := runtime.NewRegistry(caller, runtime.WithSnapshotDir(dir))
	for set, err := range first.Watch(kit.Bounded(t, soon), guardedKey) {
		must(t, err)
		if len(set) == 2 {
			break
		}
	}
	must(t, first.Close(kit.Bounded(t, soon))) // which writes the file
	w.etcd.Cut()
	registry := w.registry(caller, runtime.WithSnapshotDir(dir), allowing(inside+"/32"))
	w.reaches(w.client(registry), "honest")
	if n := dialed.Load(); n > 0 {
		t.Errorf("%d connections to an address that is not allowed", n)
	}
	if w.logs.Count("endpoints remembered on disk are left out") != 1 {
		t.Errorf("the log does not say that one was left out: %s", w.logs.Lines())
	}
}

// What a process registers is not what it dials.
func TestAllowedAddressesAreNotForServers(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	registry := w.registry(w.as("greeter-server"), runtime.WithAllowedAddresses())
	_, err := registry.Register(kit.Bounded(t, soon), guardedKey, runtime.Endpoint{Addr: "10.0.0.1:80"})
	must(t, err)
	must(t, registry.Add(kit.Bounded(t, soon), guardedKey, runtime.Endpoint{Addr: "name:80"}))
	must(t, registry.Remove(kit.Bounded(t, soon), guardedKey, "name:80"))
	for set, err := range registry.Watch(kit.Bounded(t, soon), guardedKey) {
		if err != nil || len(set) > 0 {
			t.Errorf("without a prefix, Watch yields %v, %v", set, err)
		}
		break
	}
}

func TestAllowedAddressesWithABadPrefix(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	registry := w.registry(w.as("greeter-caller"), runtime.WithAllowedAddresses(netip.Prefix{}))
	if _, err := registry.NewClient(greeterAt(guardedKey), insecurely); err == nil || !strings.Contains(err.Error(), "WithAllowedAddresses") {
		t.Errorf("NewClient: %v, want the option in the error", err)
	}
}
