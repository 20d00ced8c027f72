package discovery

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// instances returns the instances of the service.
func (w *world) instances(opts ...grpc.DialOption) *runtime.Instances {
	w.t.Helper()
	desc := basic.Greeter_EtcdServiceDesc
	i, err := w.registry.NewInstances(&desc, append(plaintext(), opts...)...)
	must(w.t, err)
	return i
}

// ask calls each instance and returns what they answered, sorted.
func ask(ctx context.Context, i *runtime.Instances) ([]string, error) {
	replies := make(chan string, 100)
	err := runtime.Each(ctx, i, basic.NewGreeterClient, func(ctx context.Context, _ runtime.Endpoint, c basic.GreeterClient) error {
		reply, err := c.SayHello(ctx, &basic.HelloRequest{})
		replies <- reply.GetMessage()
		return err
	})
	close(replies)
	var names []string
	for name := range replies {
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

func ids(endpoints []runtime.Endpoint) string {
	var all []string
	for _, e := range endpoints {
		all = append(all, e.Instance)
	}
	return strings.Join(all, " ")
}

// TestK1_EveryReaderSeesOneState takes the leases of a whole service away: connections, watches and
// the status hold the same endpoints, and calls to each instance leave out all that is held.
func TestK1_EveryReaderSeesOneState(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithEmptyGrace(2*time.Second))
	lease := w.grant()
	for _, name := range []string{"a", "b"} {
		w.put(key+"/"+name, fmt.Sprintf(`{"Addr":%q}`, w.serve(name).addr), clientv3.WithLease(lease))
	}
	conn, sets, instances := w.conn(), w.watch(key), w.instances()
	reached(t, conn, soon, "a", "b")
	if got := ids(<-sets); got != "a b" {
		t.Fatalf("the watch sees %q", got)
	}
	lost := time.Now()
	if _, err := w.etcd.Admin().Revoke(kit.Bounded(t, soon), lease); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, soon, "the loss is heard", func() bool { return w.registry.Status().Keys[0].Held == 2 })
	if s := w.registry.Status().Keys; len(s) != 1 || ids(s[0].Endpoints) != "a b" {
		t.Errorf("the status has %+v, want one key with both endpoints", s)
	}
	if all, err := instances.All(kit.Bounded(t, soon)); err != nil || len(all) != 0 {
		t.Errorf("the instances are %v, %v, want none of those that are only held", all, err)
	}
	reached(t, conn, soon, "a", "b")
	got, took := ids(<-sets), time.Since(lost)
	report.Took(t, "K1", "a watch held what vanished, with a grace of 2 s, for", took)
	if got != "" || took < 2*time.Second {
		t.Errorf("the watch sees %q after %v, want nothing after the grace", got, took)
	}
}

// TestK2_CallsToEachInstance calls every instance again and again: each is connected to once.
func TestK2_CallsToEachInstance(t *testing.T) {
	w := newWorld(t, nil)
	var servers []*server
	for _, name := range []string{"a", "b", "c"} {
		servers = append(servers, w.register(w.serve(name)))
	}
	i := w.instances()
	if all, err := i.All(kit.Bounded(t, soon)); err != nil || len(all) != 3 || servers[0].made.Load() != 0 {
		t.Fatalf("All = %v, %v, with %d connections, want three instances and no connection", all, err, servers[0].made.Load())
	}
	for range 20 {
		names, err := ask(kit.Bounded(t, soon), i)
		if err != nil || strings.Join(names, "") != "abc" {
			t.Fatalf("each: %q, %v", names, err)
		}
	}
	connections := 0
	for _, s := range servers {
		connections += int(s.made.Load())
	}
	report.Count(t, "K2", "connections for 20 calls to each of 3 instances", connections)
	if connections != 3 {
		t.Errorf("%d connections, want one an instance", connections)
	}

	all, err := i.All(kit.Bounded(t, soon))
	must(t, err)
	servers[1].stop()
	names, err := ask(kit.Bounded(t, soon), i)
	if strings.Join(names, "") != "ac" || err == nil || !strings.Contains(err.Error(), `"b"`) || strings.Contains(err.Error(), `"a"`) {
		t.Errorf("with b gone: %q, %v, want a and c, and an error that names b alone", names, err)
	}
	w.delete(key + "/a")
	kit.Eventually(t, soon, "a has left", func() bool { all, err := i.All(kit.Bounded(t, soon)); return err == nil && len(all) == 2 })
	// The connection hears of it a moment after the key's state.
	kit.Eventually(t, soon, "a call to an instance that has left fails with Unavailable, naming it", func() bool {
		_, err := call(kit.Bounded(t, soon), all[0].Conn)
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `"a"`)
	})
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	if err := i.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	if _, err := i.All(kit.Bounded(t, soon)); status.Code(err) != codes.Canceled {
		t.Errorf("All after Close: %v, want Canceled", err)
	}
}

// TestInstancesAreSelected has a selector that leaves nothing.
func TestInstancesAreSelected(t *testing.T) {
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	w.register(w.serve("b"))
	b := w.instances(runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Instance == "b" }))
	if names, err := ask(kit.Bounded(t, soon), b); err != nil || strings.Join(names, "") != "b" {
		t.Errorf("each of the selected: %q, %v", names, err)
	}
	none := w.instances(runtime.WithSelector(func(runtime.Endpoint) bool { return false }))
	if names, err := ask(kit.Bounded(t, soon), none); status.Code(err) != codes.Unavailable {
		t.Errorf("each of none: %q, %v, want Unavailable", names, err)
	}
}

// TestInstancesUnderAPolicyOfTheCallers never reaches another instance.
func TestInstancesUnderAPolicyOfTheCallers(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		w.register(w.serve(name))
	}
	i := w.instances(grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	all, err := i.All(kit.Bounded(t, soon))
	must(t, err)
	for range 10 {
		for _, instance := range all {
			if name, err := call(kit.Bounded(t, soon), instance.Conn); err != nil || name != instance.Instance {
				t.Fatalf("a call to %s: %q, %v", instance.Instance, name, err)
			}
		}
	}
}

// TestInstancesWhileEtcdIsAway waits within the context, and names etcd.
func TestInstancesWhileEtcdIsAway(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	w.etcd.Cut()
	i := w.instances()
	if all, err := i.All(kit.Bounded(t, time.Second)); status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), key) {
		t.Errorf("All = %v, %v, want DeadlineExceeded after 1 s, naming the key", all, err)
	}
	w.etcd.Restore()
	if names, err := ask(kit.Bounded(t, soon), i); err != nil || strings.Join(names, "") != "a" {
		t.Errorf("each: %q, %v", names, err)
	}
}

// TestK3_AnOrderlyLeaveIsNotHeld marks the sole instance's entry, deletes it, and brings the instance
// back elsewhere.
func TestK3_AnOrderlyLeaveIsNotHeld(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave func(w *world, s *server)
	}{
		{"marked, then deleted", func(w *world, s *server) {
			w.put(key+"/a", fmt.Sprintf(`{"Op":0,"Addr":%q,"Metadata":{"grpc_leaving":"true"}}`, s.addr))
			w.delete(key + "/a")
		}},
		{"marked, and left to its lease", func(w *world, s *server) {
			w.put(key+"/a", fmt.Sprintf(`{"Op":0,"Addr":%q,"Metadata":{"grpc_leaving":"true"}}`, s.addr))
		}},
		{"marked in another layout", func(w *world, s *server) {
			w.put(key+"/a", fmt.Sprintf(`{"network":"tcp","address":%q,"weight":10,"tags":{"grpc_leaving":"true"}}`, s.addr))
			w.delete(key + "/a")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			first := w.register(w.serve("a"))
			conn, sets := w.conn(), w.watch(key)
			reached(t, conn, soon, "a")
			<-sets
			tt.leave(w, first)
			if got := ids(<-sets); got != "" {
				t.Errorf("the watch sees %q, want nothing", got)
			}
			kit.Eventually(t, soon, "calls fail at once, naming the key", func() bool {
				_, err := call(kit.Bounded(t, soon), conn)
				return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), key)
			})
			first.stop()
			w.register(w.serve("a"))
			report.Took(t, "K3", "reached at its new address after", reached(t, conn, soon, "a"))
		})
	}
}

// TestK5_ADeletedLiveConfig deletes a live config while a connection is idle and its key forgotten.
func TestK5_ADeletedLiveConfig(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	for _, name := range []string{"a", "b"} {
		w.register(w.serve(name))
	}
	configKey := "_grpc_config/" + key
	w.put(configKey, `{"loadBalancingConfig":[{"etcd":{"drain":["a"],"childPolicy":[{"round_robin":{}}]}}]}`)
	conn := w.conn(grpc.WithIdleTimeout(time.Second)) // longer than a busy machine pauses between calls
	reached(t, conn, soon, "b")
	kit.Eventually(t, soon, "the connection is idle", func() bool { return w.registry.Status().Keys[0].Connections == 0 })
	others := 1100
	if testing.Short() {
		others = 50
	}
	for n := range others {
		for _, err := range w.registry.Watch(canceled(), fmt.Sprintf("other/%d", n)) {
			t.Logf("other/%d: %v", n, err)
			break
		}
	}
	w.delete(configKey)
	// The other keys are followed for a minute, which is more than a busy machine's etcd can bear.
	report.Took(t, "K5", "the deletion is followed after", reached(t, conn, 4*soon, "a", "b"))
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// TestK6_AnEmptyLiveConfig puts an empty value by mistake: the last good config stays in force.
func TestK6_AnEmptyLiveConfig(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	for _, name := range []string{"a", "b"} {
		w.register(w.serve(name))
	}
	configKey := "_grpc_config/" + key
	w.put(configKey, `{"loadBalancingConfig":[{"etcd":{"drain":["a"],"childPolicy":[{"round_robin":{}}]}}]}`)
	conn := w.conn()
	reached(t, conn, soon, "b")
	w.put(configKey, "")
	kit.Eventually(t, soon, "it is reported", func() bool {
		return w.logs.Count("bad live service config") == 1 && w.registry.Status().Keys[0].ConfigErr != nil
	})
	report.Count(t, "K6", "log lines", w.logs.Count("bad live service config"))
	reached(t, conn, soon, "b")
	w.delete(configKey)
	reached(t, conn, soon, "a", "b")
	if err := w.registry.Status().Keys[0].ConfigErr; err != nil {
		t.Errorf("after the deletion the status says %v", err)
	}
}

// TestK7_TwoClustersInOneDirectory keeps the endpoints of two clusters in one snapshot directory.
func TestK7_TwoClustersInOneDirectory(t *testing.T) {
	leak.Beside(t)
	dir := t.TempDir()
	one, two := newWorld(t, nil, runtime.WithSnapshotDir(dir)), newWorld(t, nil, runtime.WithSnapshotDir(dir))
	third := newWorld(t, nil)
	one.register(one.serve("one"))
	two.register(two.serve("two"))
	for _, w := range []*world{one, two} {
		reached(t, w.conn(), soon, w.registered())
		must(t, w.registry.Close(kit.Bounded(t, soon)))
		w.etcd.Cut()
		w.registry = w.newRegistry(w.etcd.Client(t), runtime.WithSnapshotDir(dir))
	}
	report.Took(t, "K7", "first call from the endpoints on disk", reached(t, one.conn(), soon, "one"))
	reached(t, two.conn(), soon, "two")
	third.etcd.Cut()
	third.registry = third.newRegistry(third.etcd.Client(t), runtime.WithSnapshotDir(dir))
	if name, err := call(kit.Bounded(t, 2*time.Second), third.conn()); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a cluster that saved nothing: %q, %v, want to wait for it", name, err)
	}
}

// registered returns the one instance under the service's key.
func (w *world) registered() string {
	w.t.Helper()
	resp, err := w.etcd.Admin().Get(kit.Bounded(w.t, soon), key+"/", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 1 {
		w.t.Fatalf("%v, %v", resp, err)
	}
	return filepath.Base(string(resp.Kvs[0].Key))
}

// TestK10_MethodOptionsBeforeTheFirstList calls without a deadline while etcd is away: the proto's
// timeout ends the call.
func TestK10_MethodOptionsBeforeTheFirstList(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	w.etcd.Cut()
	desc := basic.Greeter_EtcdServiceDesc
	desc.ServiceConfig = `{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{"service":"basic.Greeter"}],"timeout":"0.5s"}]}`
	conn, err := w.registry.NewClient(&desc, plaintext()...)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	time.AfterFunc(soon, cancel)
	for _, opts := range [][]grpc.CallOption{nil, {grpc.WaitForReady(true)}} {
		began := time.Now()
		_, err := call(ctx, conn, opts...)
		report.Took(t, "K10", "a call without a deadline ended, by the method's 0.5 s, after", time.Since(began))
		if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), key) {
			t.Errorf("a call without a deadline: %v, want DeadlineExceeded by the method's 0.5 s, naming the key", err)
		}
	}
	w.etcd.Restore()
	reached(t, conn, soon, "a")
}

// TestP5_TargetUnderAPolicyOfTheCallers fails, naming the cause, rather than reach any instance.
func TestP5_TargetUnderAPolicyOfTheCallers(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		w.register(w.serve(name))
	}
	conn := w.conn(grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	for range 12 {
		name, err := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "grpc.WithDefaultServiceConfig") {
			t.Fatalf("a call for b: %q, %v, want FailedPrecondition, naming the option", name, err)
		}
	}
	reached(t, conn, soon, "a", "b", "c")
	// A live config brings the policy back that knows targets.
	w.put("_grpc_config/"+key, `{"loadBalancingConfig":[{"round_robin":{}}]}`)
	kit.Eventually(t, soon, "a call for b reaches it", func() bool {
		name, err := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn)
		return err == nil && name == "b"
	})
	astray := 0
	for range 12 {
		if name, err := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn); err != nil || name != "b" {
			astray++
			t.Errorf("a call for b: %q, %v", name, err)
		}
	}
	report.Count(t, "P5", "calls that reached another instance", astray)
}

// TestP4_TheDeprecatedFieldNamesOurPolicy has a live config name the policy etcd by the old field.
func TestP4_TheDeprecatedFieldNamesOurPolicy(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"a", "b", "c"} {
		w.register(w.serve(name))
	}
	conn := w.conn()
	reached(t, conn, soon, "a", "b", "c")
	w.put("_grpc_config/"+key, `{"loadBalancingPolicy":"etcd"}`)
	kit.Eventually(t, soon, "it is in force, or refused", func() bool {
		s := w.registry.Status().Keys[0]
		return s.ServiceConfig != "" || s.ConfigErr != nil
	})
	reached(t, conn, soon, "a", "b", "c")
	for range 9 {
		if name, err := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn); err != nil || name != "b" {
			t.Errorf("a call for b: %q, %v", name, err)
		}
	}
}

// TestP11_QuestionableTargets refuses what a target says beyond a key and one layout.
func TestP11_QuestionableTargets(t *testing.T) {
	w := newWorld(t, nil)
	for target, want := range map[string]string{
		"etcd:///acme/user#2":                                "#",
		"etcd:///acme/user?layout=plain&layout=lease_suffix": "layout",
		"etcd:///acme/user?layout=":                          "layout",
	} {
		conn, err := grpc.NewClient(target, append(plaintext(), grpc.WithResolvers(w.registry.Resolver()))...)
		if err == nil {
			_, err = call(kit.Bounded(t, soon), conn)
			_ = conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error about %s", target, err, want)
		}
	}
}

// TestS10_LiveConfigsForLoadBalancingAlone refuses all else where the option is set.
func TestS10_LiveConfigsForLoadBalancingAlone(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithLiveLoadBalancingOnly())
	w.register(w.serve("a"))
	w.register(w.serve("b"))
	conn := w.conn()
	reached(t, conn, soon, "a", "b")
	configKey := "_grpc_config/" + key
	w.put(configKey, `{"loadBalancingConfig":[{"etcd":{"drain":["a"],"childPolicy":[{"round_robin":{}}]}}],"methodConfig":[{"name":[{}],"timeout":"1s"}]}`)
	kit.Eventually(t, soon, "it is refused", func() bool { return w.registry.Status().Keys[0].ConfigErr != nil })
	reached(t, conn, soon, "a", "b")
	w.put(configKey, `{"loadBalancingConfig":[{"etcd":{"drain":["a"],"childPolicy":[{"round_robin":{}}]}}]}`)
	reached(t, conn, soon, "b")
}

// TestS10_LimitsAreNotLifted refuses a live config that would lift the receive limit.
func TestS10_LimitsAreNotLifted(t *testing.T) {
	w := newWorld(t, nil)
	for config, ok := range map[string]bool{
		`{"methodConfig":[{"name":[{}],"maxResponseMessageBytes":67108864}]}`: false,
		`{"methodConfig":[{"name":[{}],"maxResponseMessageBytes":1048576}]}`:  true,
	} {
		err := w.registry.SetServiceConfig(kit.Bounded(t, soon), key, config)
		if (err == nil) != ok {
			t.Errorf("%s: %v, want success %v", config, err, ok)
		}
	}
}

// TestS5_LiveConfigsAtTheBounds puts configs at and beyond the bounds: each is refused soon, and nothing is lost.
func TestS5_LiveConfigsAtTheBounds(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, []etcdtest.Option{})
	w.register(w.serve("a"))
	conn := w.conn()
	reached(t, conn, soon, "a")
	nest := strings.Repeat(`{"loadBalancingConfig":[`, 50) + strings.Repeat(`]}`, 50)
	var n atomic.Int64
	for name, config := range map[string]string{
		"deep":            nest,
		"nothing but [":   strings.Repeat("[", 256<<10),
		"256 KB of drain": `{"loadBalancingConfig":[{"etcd":{"drain":["` + strings.Repeat(`x`, 256<<10) + `"]}}]}`,
		"null":            "null",
	} {
		before := n.Add(1)
		w.put("_grpc_config/"+key, config)
		began := time.Now()
		kit.Eventually(t, soon, name+" is refused", func() bool { return w.logs.Count("bad live service config") >= int(before) })
		report.Took(t, "S5", "refused after", time.Since(began))
		reached(t, conn, soon, "a")
	}
	for _, line := range w.logs.Lines() {
		if len(line) > 4096 {
			t.Errorf("a line of %d bytes was logged", len(line))
		}
	}
}
