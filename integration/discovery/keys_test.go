package discovery

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/randomsubsetting"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// drainA is a live config that drains an instance.
const drainA = `{"loadBalancingConfig":[{"etcd":{"drain":["a"],"childPolicy":[{"round_robin":{}}]}}]}`

// TestK1_EveryReaderSeesOneState takes the leases of a whole service away: connections, watches and
// the status hold the same endpoints, and calls to each instance leave out all that is held.
func TestK1_EveryReaderSeesOneState(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	lease := w.grant()
	for _, name := range []string{"a", "b"} {
		w.put(key+"/"+name, fmt.Sprintf(`{"Addr":%q}`, w.serve(name).addr), clientv3.WithLease(lease))
	}
	brief := w.newRegistry(w.client, runtime.WithEmptyGrace(2*time.Second))
	conn, sets, briefly, instances := w.conn(), w.watch(key), w.watchAs(brief, key), w.instances()
	reached(t, conn, soon, "a", "b")
	for _, c := range []<-chan []runtime.Endpoint{sets, briefly} {
		if got := ids(<-c); got != "a b" {
			t.Fatalf("a watch sees %q", got)
		}
	}
	_, err := w.etcd.Admin().Revoke(kit.Bounded(t, soon), lease)
	must(t, err)
	if got := ids(<-briefly); got != "" {
		t.Errorf("the watch sees %q, want nothing after the grace", got)
	}
	// Elsewhere the grace is of 30 s.
	kit.Eventually(t, soon, "the loss is heard", func() bool { return w.status().Held == 2 })
	if got := ids(w.status().Endpoints); got != "a b" {
		t.Errorf("the status has %q, want both endpoints", got)
	}
	if all, err := instances.All(kit.Bounded(t, soon)); err != nil || len(all) != 0 {
		t.Errorf("the instances are %v, %v, want none of those that are only held", all, err)
	}
	reached(t, conn, soon, "a", "b")
	select {
	case set := <-sets:
		t.Errorf("the watch sees %q within the grace", ids(set))
	default:
	}
}

// TestK2_CallsToEachInstance calls every instance again and again: each is connected to once. A policy of the caller's own
// changes nothing.
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
	if connections != 3 {
		t.Errorf("%d connections, want one an instance", connections)
	}
	selected := w.instances(runtime.WithSelector(func(e runtime.Endpoint) bool { return e.Instance == "b" }))
	if names, err := ask(kit.Bounded(t, soon), selected); err != nil || strings.Join(names, "") != "b" {
		t.Errorf("each of the selected: %q, %v", names, err)
	}

	all, err := i.All(kit.Bounded(t, soon))
	must(t, err)
	servers[1].stop()
	names, err := ask(kit.Bounded(t, soon), i)
	if strings.Join(names, "") != "ac" || err == nil || !strings.Contains(err.Error(), `"b"`) || strings.Contains(err.Error(), `"a"`) {
		t.Errorf("with b gone: %q, %v, want a and c, and an error that names b alone", names, err)
	}
	w.delete(key + "/a")
	kit.Eventually(t, soon, "a call to an instance that has left fails with Unavailable, naming it", func() bool {
		_, err := within(all[0].Conn, soon)
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), `"a"`)
	})
	must(t, i.Close())
	must(t, i.Close())
	if _, err := i.All(kit.Bounded(t, soon)); status.Code(err) != codes.Canceled {
		t.Errorf("All after Close: %v, want Canceled", err)
	}
}

// TestK3_AnOrderlyLeaveIsNotHeld marks the sole instance's entry, deletes it, and brings the instance
// back elsewhere.
func TestK3_AnOrderlyLeaveIsNotHeld(t *testing.T) {
	w := newWorld(t, nil)
	first := w.register(w.serve("a"))
	conn := w.conn()
	reached(t, conn, soon, "a")
	w.tag(first, `{"grpc_leaving":"true"}`)
	w.delete(key + "/a")
	kit.Eventually(t, soon, "it is followed", func() bool { return w.status().Known && len(w.status().Endpoints) == 0 })
	if _, err := within(conn, soon); err != nil {
		t.Errorf("while it is connected, and nothing else can take a call: %v", err)
	}
	first.stop()
	kit.Eventually(t, soon, "calls fail at once, naming the key", func() bool {
		_, err := within(conn, soon)
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), key)
	})
	w.registerAll("a")
	reached(t, conn, soon, "a")
}

// TestK3_OthersOfAnAddressStay withdraws one of two instances that share an address.
func TestK3_OthersOfAnAddressStay(t *testing.T) {
	w := newWorld(t, nil)
	add := func(id, addr string) *runtime.Registration {
		r, err := w.newRegistry(w.client).Register(kit.Bounded(t, soon), key, runtime.Endpoint{Instance: id, Addr: addr})
		must(t, err)
		return r
	}
	add("a", "10.0.0.1:1")
	b := add("b", "10.0.0.1:1")
	closed := false
	for set, err := range w.registry.Watch(kit.Bounded(t, soon), key) {
		must(t, err)
		if text := fmt.Sprint(set); !closed {
			closed = true
			must(t, b.Close(kit.Bounded(t, soon)))
			add("last", "10.0.0.2:1")
		} else if strings.Contains(text, "10.0.0.2:1") {
			if !strings.Contains(text, "10.0.0.1:1") {
				t.Errorf("the endpoints are %s", text)
			}
			break
		}
	}
}

// TestK5_ADeletedLiveConfig deletes a live config while a connection is idle and its key forgotten.
func TestK5_ADeletedLiveConfig(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.registerAll("a", "b")
	w.put(configKey, drainA)
	conn := w.conn(grpc.WithIdleTimeout(time.Second)) // longer than a busy machine pauses between calls
	reached(t, conn, soon, "b")
	kit.Eventually(t, soon, "the connection is idle", func() bool { return w.status().Connections == 0 })
	ended, end := context.WithCancel(t.Context())
	end()
	for n := range 50 {
		for _, err := range w.registry.Watch(ended, fmt.Sprintf("other/%d", n)) {
			t.Logf("other/%d: %v", n, err)
			break
		}
	}
	w.delete(configKey)
	// The other keys are followed for a minute, which is more than a busy machine's etcd can bear.
	reached(t, conn, 4*soon, "a", "b")
}

// TestK6_AnEmptyLiveConfig puts an empty value by mistake: the last good config stays in force.
func TestK6_AnEmptyLiveConfig(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.registerAll("a", "b")
	w.put(configKey, drainA)
	conn := w.conn()
	reached(t, conn, soon, "b")
	w.put(configKey, "")
	kit.Eventually(t, soon, "it is reported", func() bool {
		return w.logs.Count("bad live service config") == 1 && w.status().ConfigErr != nil
	})
	reached(t, conn, soon, "b")
	w.delete(configKey)
	reached(t, conn, soon, "a", "b")
	if err := w.status().ConfigErr; err != nil {
		t.Errorf("after the deletion the status says %v", err)
	}
}

// TestP5_TargetUnderAPolicyOfTheCallers reaches the instance: gRPC's own default service config has no effect.
func TestP5_TargetUnderAPolicyOfTheCallers(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a", "b", "c")
	conn := w.conn(grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}],"methodConfig":[{"name":[{}],"timeout":"0s"}]}`))
	for range 12 {
		if name, err := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn); err != nil || name != "b" {
			t.Errorf("a call for b: %q, %v", name, err)
		}
	}
	reached(t, conn, soon, "a", "b", "c")
}

// TestP16_APolicyAboveOurs narrows the endpoints down to 2 of 6, and keeps no call from the one that it names.
func TestP16_APolicyAboveOurs(t *testing.T) {
	w := newWorld(t, nil)
	names := []string{"a", "b", "c", "d", "e", "f"}
	w.registerAll(names...)
	conn := w.conn(runtime.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"random_subsetting_experimental":{"subsetSize":2,"childPolicy":[{"etcd":{}}]}}]}`))
	called := map[string]bool{}
	for range 40 {
		name, err := within(conn, soon)
		must(t, err)
		called[name] = true
	}
	if len(called) != 2 {
		t.Errorf("the calls went to %v, want 2 instances", called)
	}
	for _, want := range names {
		if name, err := call(runtime.WithTarget(kit.Bounded(t, soon), want), conn); err != nil || name != want {
			t.Errorf("a call for %s: %q, %v", want, name, err)
		}
	}
	w.live(drainA) // replaces the policy
	reached(t, conn, soon, "b", "c", "d", "e", "f")
}

// TestK16_TargetOfAKeyThatMayNotBeRead names the permission.
func TestK16_TargetOfAKeyThatMayNotBeRead(t *testing.T) {
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("secret", etcdtest.User{Name: "caller", Password: "p"})})
	w.registry = w.newRegistry(w.etcd.Client(t, etcdtest.As("caller", "p")))
	i := w.instances()
	_, target := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), w.conn())
	_, all := i.All(kit.Bounded(t, soon))
	_, each := ask(kit.Bounded(t, soon), i)
	for what, err := range map[string]error{"WithTarget": target, "All": all, "Each": each} {
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v, want Unavailable, naming %q and the permission", what, err, key)
		}
	}
	if !strings.Contains(fmt.Sprint(target), `"b"`) {
		t.Errorf("a call for b: %v, want it to name that", target)
	}
}

// TestErrorsNameTheNamespace fails calls for want of an instance, for whoever compares the error with etcd.
func TestErrorsNameTheNamespace(t *testing.T) {
	w := newWorld(t, nil, runtime.WithNamespace("prod/"))
	conn, i := w.conn(), w.instances()
	_, empty := within(conn, soon)
	_, each := ask(kit.Bounded(t, soon), i)
	_, target := call(runtime.WithTarget(kit.Bounded(t, soon), "b"), conn)
	_, bare := within(w.bare(w.registry, "etcd:///"+key), soon)
	for what, err := range map[string]error{"a call": empty, "Each": each, "WithTarget": target, "a bare resolver": bare} {
		if !strings.Contains(fmt.Sprint(err), `"prod/`+key+`"`) {
			t.Errorf("%s: %v, want the key with the namespace", what, err)
		}
	}
}

// TestK18_AConnectionMadeAfterALiveConfig keeps its own default one, though others of the process were given the live one.
func TestK18_AConnectionMadeAfterALiveConfig(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.registerAll("a", "b", "c")
	w.put(configKey, `{"loadBalancingConfig":[{"pick_first":{}}]}`)
	bare := w.bare(w.registry, "etcd:///"+key)
	before, err := within(bare, soon)
	must(t, err)
	for range 30 {
		if name, err := within(bare, soon); err != nil || name != before {
			t.Fatalf("under pick_first a call reached %q, %v, after %q", name, err, before)
		}
	}
	w.delete(configKey)
	kit.Eventually(t, soon, "the deletion is seen", func() bool { return w.status().ServiceConfig == "" })
	reached(t, w.bare(w.registry, "etcd:///"+key), soon, "a", "b", "c")
}

// TestS10_LiveConfigsForLoadBalancingAlone refuses all else where the option is set.
func TestS10_LiveConfigsForLoadBalancingAlone(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithLiveLoadBalancingOnly())
	conn := w.calling("a", "b")
	w.put(configKey, strings.TrimSuffix(drainA, "}")+`,"methodConfig":[{"name":[{}],"timeout":"1s"}]}`)
	kit.Eventually(t, soon, "it is refused", func() bool { return w.status().ConfigErr != nil })
	reached(t, conn, soon, "a", "b")
	w.put(configKey, drainA)
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
