package registration

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// handWritten is a health service as people write them: Check, and perhaps a Watch that does not last.
type handWritten struct {
	healthpb.UnimplementedHealthServer
	watch bool // answers once, then ends with an error

	mu     sync.Mutex
	status healthpb.HealthCheckResponse_ServingStatus
}

func (h *handWritten) set(serving bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status = healthpb.HealthCheckResponse_NOT_SERVING; serving {
		h.status = healthpb.HealthCheckResponse_SERVING
	}
}

func (h *handWritten) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &healthpb.HealthCheckResponse{Status: h.status}, nil
}

func (h *handWritten) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if !h.watch {
		return h.UnimplementedHealthServer.Watch(req, stream)
	}
	resp, err := h.Check(stream.Context(), req)
	if err != nil {
		return err
	}
	return errors.Join(stream.Send(resp), errors.New("no more of that"))
}

// followed bounds the time until a change of a polled health is in etcd.
const followed = 5 * time.Second

func TestG20_HandWrittenHealth(t *testing.T) {
	for _, tt := range []struct {
		name  string
		watch bool
	}{{"Check only", false}, {"a Watch that ends with an error", true}} {
		t.Run(tt.name, func(t *testing.T) {
			leak.Beside(t)
			w := newWorld(t, nil)
			h := &handWritten{watch: tt.watch}
			h.set(false)
			s := w.registry.NewServer(grpc.NewServer())
			healthpb.RegisterHealthServer(s, h)
			basic.RegisterGreeterServerToEtcd(s, &greeter{})
			must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
			if st := s.Status(); len(st) != 1 || st[0].State != runtime.StatePaused || len(w.keys(key)) > 0 {
				t.Errorf("announced while it is not healthy: %+v, %v", st, w.keys(key))
			}
			for range 2 {
				for _, serving := range []bool{true, false} {
					h.set(serving)
					keys := 0
					if serving {
						keys = 1
					}
					took := kit.Eventually(t, soon, "followed", func() bool { return len(w.keys(key)) == keys })
					report.Took(t, "G20", "a change followed, with "+tt.name, took)
					within(t, took, followed, "to follow")
				}
			}
			must(t, s.Withdraw(kit.Bounded(t, soon)))
		})
	}
}

// hanging is a health service that waits until it is released.
type hanging struct {
	healthpb.UnimplementedHealthServer
	began    chan struct{} // gets a value at each Check, if there is room
	released chan struct{}
}

func (h *hanging) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	select {
	case h.began <- struct{}{}:
	default:
	}
	<-h.released
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func TestG20_ACheckWaitsForEver(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	h := &hanging{released: make(chan struct{})}
	t.Cleanup(sync.OnceFunc(func() { close(h.released) }))
	s := w.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	healthpb.RegisterHealthServer(s, h)
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	lis := listen(t, "127.0.0.1:0")
	// By hand: on the old code Serve does not return before the Check does.
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	start := time.Now()
	go func() { served <- s.Serve(ctx, lis) }()
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	_, err = basic.NewGreeterClient(conn).SayHello(kit.Bounded(t, 5*time.Second), &basic.HelloRequest{}, grpc.WaitForReady(true))
	report.Took(t, "G20", "serves though its Check waits for ever", time.Since(start))
	if err != nil {
		t.Errorf("Serve does not serve: %v", err)
	}
	within(t, time.Since(start), 2*time.Second, "to serve")
	if err == nil {
		took := kit.Eventually(t, soon, "registered", func() bool { return len(w.keys(key)) == 1 })
		within(t, took, backSoon, "to register")
	}
	cancel()
	if err == nil {
		start = time.Now()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		within(t, time.Since(start), 5*time.Second, "to drain")
		must(t, w.registry.Close(kit.Bounded(t, soon)))
	}
}

// Health that flaps costs etcd few transactions, and the last status counts.
func TestG20_HealthFlaps(t *testing.T) {
	leak.Beside(t)
	worlds := []*world{newWorld(t, nil), newWorld(t, nil)}
	t.Run("ends", func(t *testing.T) {
		for i, last := range []healthpb.HealthCheckResponse_ServingStatus{
			healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING,
		} {
			t.Run(last.String(), func(t *testing.T) {
				t.Parallel()
				worlds[i].in(t).flap(last)
			})
		}
	})
}

func (w *world) flap(last healthpb.HealthCheckResponse_ServingStatus) {
	t := w.t
	s := w.registry.NewServer(grpc.NewServer())
	h := health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
	const flapping, settling = 4 * time.Second, 4 * time.Second
	calls := w.etcd.Calls()
	calls.Reset()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for i := 0; time.Since(start) < flapping; i++ {
		status := healthpb.HealthCheckResponse_SERVING
		if i%2 == 0 {
			status = healthpb.HealthCheckResponse_NOT_SERVING
		}
		h.SetServingStatus(basic.Greeter_EtcdServiceDesc.Name, status)
		<-tick.C
	}
	txns := calls.Count(etcdtest.Txn, "")
	h.SetServingStatus(basic.Greeter_EtcdServiceDesc.Name, last)
	report.Count(t, "G20", "transactions in 4 s of a health that flaps 100 times a second", txns)
	if most := 2 * int(flapping/time.Second); txns > most {
		t.Errorf("%d transactions in %v, more than %d", txns, flapping, most)
	}
	keys := 0
	if last == healthpb.HealthCheckResponse_SERVING {
		keys = 1
	}
	// It may be right by chance before it has settled.
	start = time.Now()
	var changed time.Duration
	for right := true; time.Since(start) < settling; <-tick.C {
		if now := len(w.keys(key)) == keys; now != right {
			right, changed = now, time.Since(start)
		}
	}
	report.Took(t, "G20", "as the health says after it has flapped", changed)
	if got := len(w.keys(key)); got != keys {
		t.Errorf("%v after the flapping %d keys are in etcd, want %d", settling, got, keys)
	}
	must(t, s.Withdraw(kit.Bounded(t, soon)))
}

// panicking is a health service with a fault.
type panicking struct {
	healthpb.UnimplementedHealthServer
}

func (panicking) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	panic("no health")
}

// After a Check that panics or returns nothing, the health is not known, which counts as healthy.
func TestG20_HealthThatPanicsOrLies(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	for name, h := range map[string]healthpb.HealthServer{"panics": panicking{}, "says nothing": lying{}} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("Announce panicked: %v", p)
				}
			}()
			s := w.registry.NewServer(grpc.NewServer())
			healthpb.RegisterHealthServer(s, h)
			basic.RegisterGreeterServerToEtcd(s, &greeter{})
			must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
			w.is(key, contents{entry: ""}, "announced")
			must(t, s.Withdraw(kit.Bounded(t, soon)))
		})
	}
}

// lying is a health service with empty and invalid answers.
type lying struct {
	healthpb.UnimplementedHealthServer
}

func (lying) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return nil, nil
}

func (lying) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	return errors.Join(stream.Send(nil), stream.Send(&healthpb.HealthCheckResponse{Status: 99}))
}
