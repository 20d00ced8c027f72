package discovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// TestEverythingAtOnce flips live configs and brings and takes instances away in order, then cuts etcd off, wipes it and lets
// it hang, under calls of connections of every kind, and closes the registry under them at last. Six servers go on to serve,
// so no call may fail before that, and none may hang after.
func TestEverythingAtOnce(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	f := newFleet(t, runtime.WithZone("x"), runtime.WithSnapshotDir(t.TempDir()))
	tags := func(i int) []runtime.RegisterOption {
		return []runtime.RegisterOption{runtime.WithVersion(fmt.Sprintf("v%d", i%2+1)), runtime.WithZoneTag([]string{"x", "y"}[i/2%2])}
	}
	for i := range 6 {
		f.start(fmt.Sprintf("s%d", i), tags(i)...)
	}
	var closed atomic.Bool
	all, churning := newLoops(), newLoops()
	var failed atomic.Int64
	check := func(what string, err error) {
		if err != nil && (!closed.Load() || status.Code(err) == codes.DeadlineExceeded) && failed.Add(1) < 30 {
			t.Errorf("%s: %v", what, err)
		}
	}
	for name, opts := range map[string][]grpc.DialOption{
		"plain": nil, "subset of one": {runtime.WithSubset(1)}, "subset of two": {runtime.WithSubset(2)},
		"selector": {runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Version == "v1" })},
		"idle":     {grpc.WithIdleTimeout(40 * time.Millisecond)},
		"callers":  {grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)},
		"disabled": {grpc.WithDisableServiceConfig()},
	} {
		conn := f.client(policy(`{"round_robin":{}}`), opts...)
		share(t, conn, 10) // so that it knows them before etcd goes away
		all.run(func() {
			time.Sleep(20 * time.Millisecond)
			if name == "idle" {
				time.Sleep(80 * time.Millisecond)
			}
			_, err := call(runtime.WithAffinity(kit.Bounded(t, soon), fmt.Sprint(rand.IntN(9))), conn)
			check(name, err)
			got, err := call(runtime.WithTarget(kit.Bounded(t, soon), "s0"), conn)
			if name == "callers" && status.Code(err) == codes.FailedPrecondition {
				return // until a live config brings the policy that knows targets
			}
			check(name+", target", err)
			if err == nil && got != "s0" {
				t.Errorf("%s: %s answered for s0", name, got)
			}
		})
	}
	all.run(func() { f.each(t) })
	all.run(func() { f.flip() })
	var churn []*backend
	for i := range 5 {
		churn = append(churn, f.listen(fmt.Sprintf("c%d", i)))
	}
	churning.run(func() {
		s := churn[rand.IntN(len(churn))]
		if s.registration == nil {
			f.register(s, tags(rand.IntN(4))...)
		} else {
			s.leave(t)
			s.registration = nil
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
	})
	time.Sleep(8 * time.Second)
	churning.stop()
	for _, outage := range []func(){
		func() { f.etcd.Cut(); time.Sleep(3 * time.Second); f.etcd.Restore() },
		func() { must(t, f.etcd.Wipe()) },
		func() { f.etcd.Pause(); time.Sleep(3 * time.Second); f.etcd.Resume() },
	} {
		outage()
		time.Sleep(4 * time.Second)
	}
	closed.Store(true)
	must(t, f.registry.Close(kit.Bounded(t, soon)))
	all.stop()
}

// each calls each instance some times.
func (f *fleet) each(t *testing.T) {
	desc := basic.Greeter_EtcdServiceDesc
	i, err := f.registry.NewInstances(&desc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil { // the registry is closed
		time.Sleep(10 * time.Millisecond)
		return
	}
	for range 20 {
		_ = runtime.Each(kit.Bounded(t, soon), i, basic.NewGreeterClient, func(ctx context.Context, e runtime.Endpoint, c basic.GreeterClient) error {
			reply, err := c.SayHello(ctx, &basic.HelloRequest{})
			if err == nil && reply.GetMessage() != e.Instance {
				t.Errorf("each: %s answered for %s", reply.GetMessage(), e.Instance)
			}
			return err
		})
		time.Sleep(20 * time.Millisecond)
	}
	_ = i.Close() // the registry may be closed
}

// flip puts a live config, or fails to.
func (f *fleet) flip() {
	parts := []string{``, `"preferZone":true,`, `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":2}],`, `"drain":["s1","s2","c0"],`,
		`"preferZone":true,"drain":["s3"],"split":[{"match":{"zone":"x"},"weight":1}],`}
	children := []string{`{"round_robin":{}}`, `{"least_request_experimental":{}}`, `{"weighted_round_robin":{}}`, `{"etcd_weighted":{}}`, `{"pick_first":{}}`,
		`{"outlier_detection_experimental":{"interval":"0.1s","failurePercentageEjection":{},"childPolicy":[{"round_robin":{}}]}}`, ring}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_ = f.servers.SetServiceConfig(ctx, key, policy(`{"etcd":{`+parts[rand.IntN(len(parts))]+`"childPolicy":[`+children[rand.IntN(len(children))]+`]}}`))
	time.Sleep(200 * time.Millisecond)
}
