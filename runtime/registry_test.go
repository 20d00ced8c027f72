package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver/manual"
)

// away returns a client of an etcd that cannot be reached.
func away(t *testing.T) *clientv3.Client {
	t.Helper()

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })

	return client
}

// uses returns a function for each way to use a registry.
func uses(r *Registry) map[string]func(context.Context) error {
	desc := &ServiceDesc{Name: "a.B", Key: "a/b"}
	return map[string]func(context.Context) error{
		"NewClient": func(context.Context) error {
			_, err := r.NewClient(desc, plaintext)
			return err
		},
		"Each": func(ctx context.Context) error {
			instances, err := r.NewInstances(desc, plaintext)
			if err != nil {
				return err
			}
			defer instances.Close()

			return Each(ctx, instances, func(c grpc.ClientConnInterface) grpc.ClientConnInterface {
				return c
			},
				func(context.Context, Endpoint, grpc.ClientConnInterface) error { return nil })
		},
		"Follow": func(context.Context) error {
			_, err := r.Follow(desc, func() {})
			return err
		},
		"Register": func(ctx context.Context) error {
			_, err := r.Register(ctx, "a/b", Endpoint{Addr: "h:1"})
			return err
		},
		"Add": func(ctx context.Context) error {
			return r.Add(ctx, "a/b", Endpoint{Addr: "h:1"})
		},
		"Remove": func(ctx context.Context) error { return r.Remove(ctx, "a/b", "x") },
		"SetServiceConfig": func(ctx context.Context) error {
			return r.SetServiceConfig(ctx, "a/b", "{}")
		},
		"Watch": func(ctx context.Context) error {
			for _, err := range r.Watch(ctx, "a/b") {
				return err
			}

			return nil
		},
		"Resolver": func(ctx context.Context) error {
			conn, err := grpc.NewClient("etcd:///a/b", plaintext, grpc.WithResolvers(r.Resolver()))
			if err != nil {
				return err
			}
			defer conn.Close()

			return conn.Invoke(ctx, "/a.B/C", nil, nil)
		},
		"Serve": func(ctx context.Context) error {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}

			s := r.NewServer(grpc.NewServer())
			s.Publish(desc)

			return s.Serve(ctx, lis)
		},
		"Announce": func(ctx context.Context) error {
			s := r.NewServer(grpc.NewServer())
			s.Publish(desc)

			return s.Announce(ctx, "127.0.0.1:1")
		},
	}
}

func TestRegistryThatCannotBeUsed(t *testing.T) {
	closed := NewRegistry(away(t))
	must(t, closed.Close(t.Context()))

	without := func(take func(*clientv3.Client)) *Registry {
		client := away(t)
		parts := clientv3.NewCtxClient(t.Context())
		parts.KV = client.KV
		parts.Watcher = client.Watcher
		parts.Lease = client.Lease
		take(parts)

		return NewRegistry(parts)
	}

	shared := away(t)
	for name, tt := range map[string]struct {
		registry *Registry
		want     error
	}{
		"that falls back on nil": {NewRegistry(away(t), WithFallback(nil)),
			errors.New("etcd: WithFallback was given a nil registry")},
		"that falls back on itself": {
			NewRegistry(shared, WithFallback(NewRegistry(shared))),
			errors.New(
				"etcd: WithFallback was given a registry on the same etcd client and namespace")},
		"whose fallback has its directory": {NewRegistry(away(t), WithSnapshotDir("d"),
			WithFallback(NewRegistry(away(t), WithSnapshotDir("d")))),
			errors.New("etcd: WithFallback: both registries have the snapshot directory")},
		"that falls back on an invalid one": {NewRegistry(away(t), WithFallback(NewRegistry(nil))),
			errNilClient},
		"of a nil client": {NewRegistry(nil), errNilClient},
		"without a KV": {without(func(c *clientv3.Client) {
			c.KV = nil
		}), errIncompleteClient},
		"without a Watcher": {without(func(c *clientv3.Client) {
			c.Watcher = nil
		}), errIncompleteClient},
		"closed": {closed, errClosed},
		"with a bad prefix": {NewRegistry(away(t), WithAllowedAddresses(netip.Prefix{})),
			errors.New("etcd: WithAllowedAddresses: prefix 1 of 1 is invalid Prefix")},
	} {
		for use, f := range uses(tt.registry) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			err := f(ctx)
			cancel()

			// gRPC passes on only the text of a resolver's error.
			if !errors.Is(err, tt.want) &&
				(err == nil || !strings.Contains(err.Error(), tt.want.Error())) {
				t.Errorf("%s of a registry %s returned %v, want %v", use, name, err, tt.want)
			}
		}

		if s := tt.registry.Status(); len(s.Keys) > 0 || len(s.Registrations) > 0 {
			t.Errorf("Status of a registry %s = %v, want no keys and registrations", name, s)
		}

		if err := tt.registry.Close(t.Context()); err != nil {
			t.Errorf("Close of a registry %s returned %v, want nil", name, err)
		}
	}
}

// Errors name the key with the namespace.
func TestErrorsNameTheNamespace(t *testing.T) {
	for use, f := range uses(offline(t, WithNamespace("prod/"))) {
		if use == "NewClient" ||
			use == "Follow" ||
			use == "Serve" ||
			use == "Watch" ||
			use == "Resolver" {
			continue // these succeed while etcd cannot be reached, or return gRPC's errors
		}

		for _, bound := range []time.Duration{0, 20 * time.Millisecond} {
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			err := f(ctx)
			cancel()

			if err == nil || !strings.Contains(err.Error(), "prod/a/b") &&
				!strings.Contains(err.Error(), "prod/_grpc_config/a/b") {
				t.Errorf(
					"%s within %v returned %v, want an error with the key and the namespace prod/",
					use, bound, err)
			}
		}
	}
}

// A client that was made without clientv3.New needs no Lease for discovery.
func TestAClientWithoutALease(t *testing.T) {
	client := clientv3.NewCtxClient(t.Context())
	client.KV = away(t).KV
	client.Watcher = away(t).Watcher
	r := NewRegistry(client)
	defer r.Close(t.Context())

	for use, f := range uses(r) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		err := f(ctx)
		cancel()

		leases := use == "Register" || use == "Serve" || use == "Announce"
		if errors.Is(err, errIncompleteClient) != leases {
			t.Errorf("%s without a Lease returned %v, want errIncompleteClient: %v", use, err,
				leases)
		}
	}
}

func TestBadDescriptions(t *testing.T) {
	r := NewRegistry(away(t), WithLogger(slog.New(slog.DiscardHandler)), nil)
	defer r.Close(t.Context())

	for want, desc := range map[string]*ServiceDesc{
		"is nil":        nil,
		"is empty":      {},
		"slash":         {Key: "a/"},
		"_grpc_config":  {Key: "_grpc_config/a"},
		"set Authority": {Key: "käse"},
		"character '@'": {Key: "a", Authority: "user@host"},
		"negative":      {Key: "a", LeaseTTL: -time.Second},
		"no address":    {Key: "a", Layout: JSONLayout(JSONFields{Version: "v"})},
		// This test does not link the policy, and neither does generated code.
		"outlier_detection_experimental": {
			Key:           "demo",
			ServiceConfig: `{"loadBalancingConfig":[{"outlier_detection_experimental":{"failurePercentageEjection":{},"childPolicy":[{"round_robin":{}}]}}]}`,
		},

		"nope": {
			Key:           "a",
			ServiceConfig: `{"loadBalancingConfig":[{"nope":{}}]}`,
		},
		"not a JSON object":  {Key: "a", ServiceConfig: `[`},
		"loadBalancing":      {Key: "a", ServiceConfig: `{"loadBalancingConfig":7}`},
		"MethodConfig":       {Key: "a", ServiceConfig: `{"methodConfig":7}`},
		"transport security": {Key: "a"},
	} {
		opts := []grpc.DialOption{plaintext, nil}
		if want == "transport security" {
			opts = nil
		}

		conn, err := r.NewClient(desc, opts...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewClient(%+v) = %v, %v, want an error with %q", desc, conn, err, want)
		}
	}

	for config, want := range map[string]string{
		"{": "service config",
		`{"loadBalancingConfig":[{"grpclb":{}}]}`:                                 `not "grpclb"; for any other, call grpc.NewClient("etcd:///KEY"`,
		`{"loadBalancingConfig":[{"etcd":{"childPolicy":[{"weighted":{}}]}}]}`:    `childPolicy[0]: want one of the policies`,
		`{"loadBalancingConfig":[{"round_robin":{"childPolicy":[{"etcd":{}}]}}]}`: `round_robin: unknown field "childPolicy"`,
	} {
		conn, err := r.NewClient(&ServiceDesc{Key: "a"}, plaintext,
			WithDefaultServiceConfig(config))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf(
				"NewClient with the default service config %s = %v, %v, want an error with %q",
				config, conn, err, want)
		}
	}
}

func TestConnectionsThatAreClosedAreForgotten(t *testing.T) {
	const open, closed = 20, 200

	r := NewRegistry(away(t))
	scans := 0

	defer r.Close(t.Context())

	for i := range open + closed {
		before := len(r.conns)
		conn, err := r.NewClient(&ServiceDesc{Name: "a.B", Key: "a"}, plaintext)
		must(t, err)

		if i >= open {
			must(t, conn.Close())
		}

		if len(r.conns) <= before {
			scans++
		}
	}

	if n := len(r.conns) - open; n > 4*open || scans > closed/open {
		t.Errorf("with %d open connections, the registry tracks %d of %d closed ones after %d scans, want at most %d and %d",
			open, n, closed, scans, 4*open, closed/open)
	}
}

// TestCloseIsBounded closes a registry whose connections hang while they are
// closed: Close closes all of them, and its error says that some are still
// being closed.
func TestCloseIsBounded(t *testing.T) {
	const conns = 3

	r := NewRegistry(away(t))
	begun := make(chan struct{}, conns)

	release := make(chan struct{})
	for range conns {
		hangs := manual.NewBuilderWithScheme("hangs")
		hangs.CloseCallback = func() {
			begun <- struct{}{}
			<-release
		}

		conn, err := grpc.NewClient("hangs:///", grpc.WithResolvers(hangs), plaintext)
		must(t, err)
		conn.Connect()
		r.conns = append(r.conns, conn)
	}

	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan error)
	go func() { closed <- r.Close(ctx) }()

	for range conns {
		<-begun
	}

	cancel()

	err := <-closed
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "still being closed") {
		t.Errorf("Close: %v, want an error that says what is still being closed", err)
	}

	close(release)
	r.running.Wait()
}

func TestEachEndsWithItsRegistry(t *testing.T) {
	r := NewRegistry(away(t), WithLogger(slog.New(slog.DiscardHandler)))
	ended := make(chan error, 1)
	go func() { ended <- uses(r)["Each"](context.Background()) }()

	for len(r.Status().Keys) == 0 {
		time.Sleep(time.Millisecond) // until Each waits for etcd
	}

	must(t, r.Close(t.Context()))

	if err := <-ended; err == nil {
		t.Error("Each returned nil though its registry was closed, want an error")
	}
}

func TestRegisterMisuse(t *testing.T) {
	ctx := context.Background()
	ep := Endpoint{Addr: "h:1"}
	if _, err := (*Registry)(nil).Register(ctx, "a", ep); err == nil {
		t.Error("Register of a nil registry returned no error")
	}

	r := offline(t, WithLeaseTTL(time.Millisecond))
	_, err := r.Register(ctx, "a", ep)
	if err == nil || !strings.Contains(err.Error(), "1ms") {
		t.Errorf("Register with a TTL of 1 ms returned %v, want an error with 1ms", err)
	}

	if err := r.Add(ctx, "a/", ep); err == nil {
		t.Error("Add under the key \"a/\" returned no error")
	}

	err = r.Add(ctx, "a", ep, WithLayouts(nil))
	if err == nil || !strings.Contains(err.Error(), "nil layout") {
		t.Errorf("Add in a nil layout returned %v, want an error with 'nil layout'", err)
	}

	err = r.Add(ctx, "a", ep, WithLayouts(JSONLayout(JSONFields{Version: "v"})))
	if err == nil || !strings.Contains(err.Error(), "names no address") {
		t.Errorf(
			"Add in a layout without an address returned %v, want an error with 'names no address'",
			err)
	}

	for _, err := range r.Watch(ctx, "a", JSONLayout(JSONFields{Addr: "a"}),
		JSONLayout(JSONFields{Addr: "b"})) {
		if err == nil || !strings.Contains(err.Error(), "two JSON layouts") {
			t.Errorf("Watch with two JSON layouts yielded the error %v, want one with 'two JSON layouts'", err)
		}

		break
	}

	if err := r.Remove(ctx, "a", ""); err == nil {
		t.Error("Remove of the instance \"\" returned no error")
	}
}

// After an error has ended, yieldChanges yields the set, even if the set is the
// same. Otherwise users would not notice the end of the error.
func TestYieldChanges_SetAfterError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type state struct {
			known bool
			set   []string
			err   error
		}

		var got []string

		one := []string{"a"}
		failed := errors.New("away")
		changed := make(chan struct{}, 1)
		began := time.Now() // virtual time
		states := []state{{err: failed}, {}, {true, one, nil}, {true, one, nil},
			{true, one, failed}, {true, one, failed}, {true, nil, failed}, {true, nil, nil},
			{true, nil, nil}}
		ctx, cancel := context.WithCancel(t.Context())
		changed <- struct{}{}

		yieldChanges(ctx, t.Context(), changed, time.Second, func() (bool, []string, error) {
			s := states[0]

			states = states[1:]
			if len(states) == 0 {
				cancel()
			}

			changed <- struct{}{}

			return s.known, s.set, s.err
		}, slices.Clone, func(set []string, err error) bool {
			got = append(got, fmt.Sprintf("%v: %d %v", time.Since(began), len(set), err))
			return true
		})

		got = append(got, fmt.Sprintf("%v: end", time.Since(began)))

		want := []string{"0s: 0 away", "2s: 1 <nil>", "4s: 0 away", "6s: 0 <nil>", "6s: 0 away",
			"7s: 0 <nil>", "8s: end"}
		if !slices.Equal(got, want) {
			t.Errorf("yielded %q, want %q", got, want)
		}
	})
}

// While the function of WithOnStatus hangs, a change of status does not block,
// and at most maxQueue changes wait: the oldest are dropped.
func TestOnStatus_Hangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int

		hang := make(chan struct{})
		heard := queued(func(s Status) {
			<-hang
			got = append(got, int(s.LeaseID))
		})
		for i := range maxQueue + 10 {
			heard(Status{LeaseID: clientv3.LeaseID(i)})

			if i == 0 {
				synctest.Wait()
			}
		}

		close(hang)
		synctest.Wait()

		if len(got) != maxQueue+1 ||
			got[1] != 10 ||
			!slices.IsSorted(got) ||
			got[maxQueue] != maxQueue+9 {
			t.Errorf("%d calls, the second for change %d, want %d and 10", len(got), got[1],
				maxQueue+1)
		}
	})
}
