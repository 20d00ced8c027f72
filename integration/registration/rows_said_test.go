package registration

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// unready announces a server at addr(0) whose health service says NOT_SERVING, and returns what has it say SERVING.
func (w *world) unready(registry *runtime.Registry) (s *runtime.Server, ready func()) {
	w.t.Helper()
	s = registry.NewServer(grpc.NewServer())
	h := health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	h.SetServingStatus(basic.Greeter_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_NOT_SERVING)
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	must(w.t, s.Announce(kit.Bounded(w.t, soon), addr(0)))
	if st := s.Status()[0]; st.State != runtime.StatePaused || st.Err != nil {
		w.t.Errorf("announced: %s (%v)", st.State, st.Err)
	}
	return s, func() {
		h.SetServingStatus(basic.Greeter_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	}
}

// G45: a successor that is not healthy at first has the address of a process that lives, as by SO_REUSEPORT.
func TestAnUnreadySuccessorLeavesTheEntryAlone(t *testing.T) {
	w := newWorld(t, nil)
	live := w.register(key, addr(0))
	before := w.get(key + "/" + addr(0))
	s, ready := w.unready(w.newRegistry(w.etcd.Client(t)))
	if now := w.get(key + "/" + addr(0)); now == nil || *now != *before || live.Status().State != runtime.StateRegistered {
		t.Errorf("etcd has %+v, and the process that lives is %v", now, live.Status().State)
	}
	ready()
	w.there(key+"/"+addr(0), live.Status().LeaseID)
	must(t, s.Withdraw(kit.Bounded(t, soon)))
}

// G32: a process that starts again within the TTL, at its address, and is not healthy at first. What the one before has left ends
// with its lease, or is taken over.
func TestG32_ThePredecessorsEntryEndsWithItsLease(t *testing.T) {
	w := newWorld(t, nil)
	for _, ttl := range []int64{1, 600} {
		before, err := w.etcd.Admin().Grant(kit.Bounded(t, soon), ttl)
		must(t, err)
		w.put(key+"/"+addr(0), `{"Op":0,"Addr":"`+addr(0)+`"}`, clientv3.WithLease(before.ID))
		s, ready := w.unready(w.registry)
		if ttl == 1 {
			kit.Eventually(t, soon, "gone", func() bool { return w.get(key+"/"+addr(0)) == nil })
		}
		ready()
		w.there(key+"/"+addr(0), before.ID)
		must(t, s.Withdraw(kit.Bounded(t, soon)))
	}
}

// Whatever is logged while a registration is made, kept, in conflict or refused, and while a live config is bad, is logged
// under no lock.
func TestG35_ALogHandlerAsks(t *testing.T) {
	w := newWorld(t, nil)
	logger, ask := kit.AskingLogger(w.logs)
	registry := w.newRegistry(w.client, runtime.WithLogger(logger))
	server := registry.NewServer(grpc.NewServer())
	basic.RegisterGreeterServerToEtcd(server, &greeter{}, runtime.WithLayouts(runtime.Kratos, runtime.GoZero))
	everything := func() {
		registry.Status()
		server.Status()
		for _, err := range registry.Watch(t.Context(), key) {
			_ = err // that it can be asked for is what matters
			break
		}
	}
	for _, err := range registry.Watch(t.Context(), key) { // so that what the handler asks for is known
		must(t, err)
		break
	}
	ask(everything)

	g := register(t, registry, key, addr(0), runtime.WithLayouts(runtime.Kratos, runtime.GoZero))
	w.put("_grpc_config/"+key, "{")
	kit.Eventually(t, soon, "the bad config logged", func() bool { return w.logs.Count("config") > 0 })
	must(t, server.Announce(kit.Bounded(t, soon), addr(1)))
	server.Publish(&basic.Greeter_EtcdServiceDesc)
	must(t, g.Pause(kit.Bounded(t, soon)))
	must(t, g.Resume(kit.Bounded(t, soon)))
	must(t, server.Withdraw(kit.Bounded(t, soon)))
	for line, want := range map[string]int{"questionable layouts": 2, "misuse of an etcd server": 1, "etcd registration paused": 1} {
		if got := w.logs.Count(line); got < want {
			t.Errorf("%d lines say %q, want %d", got, line, want)
		}
	}
}

// An entry that another process has taken says so from the first, also after a pause, in its status and its log line.
func TestG38_AConflictSaysWho(t *testing.T) {
	w := newWorld(t, nil)
	g := w.register(key, addr(0))
	other := register(t, w.newRegistry(w.etcd.Client(t)), key, addr(0))
	w.state(g, runtime.StateConflict)
	must(t, g.Pause(kit.Bounded(t, soon)))
	if st := g.Status(); st.State != runtime.StatePaused || st.Err != nil {
		t.Errorf("paused: %s (%v)", st.State, st.Err)
	}
	const who = "is held by another process"
	if err := g.Resume(kit.Bounded(t, soon)); err == nil || !strings.Contains(err.Error(), who) {
		t.Errorf("resumed: %v", err)
	}
	if st := g.Status(); st.State != runtime.StateConflict || st.Err == nil || !strings.Contains(st.Err.Error(), who) {
		t.Errorf("resumed: %s (%v)", st.State, st.Err)
	}
	lines := w.logs.Count("etcd registration conflict")
	if lines == 0 || w.logs.Count(who) < lines {
		t.Errorf("%d of %d lines say who", w.logs.Count(who), lines)
	}
	must(t, g.Pause(kit.Bounded(t, soon)))
	must(t, other.Close(kit.Bounded(t, soon)))
	must(t, g.Resume(kit.Bounded(t, soon)))
}
