package harm

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// serversSoon bounds changes that should happen at once. It is generous, for busy machines.
const serversSoon = 60 * time.Second

// serverSide is one of the two that keep entries in an etcd: ours, and plain code.
type serverSide struct {
	name   string
	client *clientv3.Client

	mu            sync.Mutex
	granted       []clientv3.LeaseID // in the order of the answers, also of those that came too late
	there         map[string]bool    // the entries that nobody touches
	puts, deletes int                // of these, since forget
}

// keepPlain keeps entries in etcd as its documentation has it: grant, put, keep alive; all of it again when the lease has gone,
// revoke at the end.
func keepPlain(ctx context.Context, client *clientv3.Client, ttl int64, keys []string) (err error) {
	for ctx.Err() == nil {
		var lease *clientv3.LeaseGrantResponse
		if lease, err = client.Grant(ctx, ttl); err == nil {
			for _, key := range keys {
				_, put := client.Put(ctx, key, "10.0.0.1:9000", clientv3.WithLease(lease.ID))
				err = errors.Join(err, put)
			}
			if answers, alive := client.KeepAlive(ctx, lease.ID); err == nil && alive == nil {
				for range answers {
				}
			}
			if ctx.Err() != nil {
				ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), serversSoon)
				defer cancel()
				_, err = client.Revoke(ending, lease.ID)
				return err
			}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	return err
}

// serverWorld is an etcd in which both sides keep entries.
type serverWorld struct {
	*testing.T
	row         serverRow
	etcd        *etcdtest.Cluster
	registry    *runtime.Registry
	logs        kit.Logs
	ours, plain *serverSide
	entries     []*runtime.Registration
}

// newServerWorld has both sides begin, and waits until plain code has its entries in etcd, then for ours.
func newServerWorld(t *testing.T, row serverRow) *serverWorld {
	w := &serverWorld{T: t, row: row, etcd: etcdtest.Start(t)}
	w.ours, w.plain = w.side("ours"), w.side("plain")
	w.watch()
	if row.begin != nil {
		row.begin(w)
	}
	w.registry = kit.Registry(t, &w.logs, w.ours.client, runtime.WithLeaseTTL(row.life()))
	ctx, end := context.WithCancel(context.Background())
	var running, registering sync.WaitGroup
	t.Cleanup(func() { end(); registering.Wait(); running.Wait() })
	w.entries = make([]*runtime.Registration, max(1, row.entries))
	var keys []string
	for i := range w.entries {
		keys = append(keys, fmt.Sprintf("plain/%d/a", i))
		registering.Go(func() {
			var layouts []runtime.RegisterOption
			if row.layout != nil {
				layouts = append(layouts, runtime.WithLayouts(row.layout))
			}
			for ctx.Err() == nil && w.entries[i] == nil {
				w.entries[i], _ = w.registry.Register(ctx, fmt.Sprintf("ours/%d", i), runtime.Endpoint{Addr: "10.0.0.1:9000"}, layouts...)
			}
		})
	}
	running.Go(func() { _ = keepPlain(ctx, w.plain.client, int64(row.life().Seconds()), keys) })
	w.bothThere("at the start")
	registering.Wait()
	w.plain.forget()
	w.ours.forget()
	return w
}

// side returns a side, with a client whose writes and grants take as long as the row says. Like those of a slow etcd, they are
// carried out whether or not they are waited for.
func (w *serverWorld) side(name string) *serverSide {
	s := &serverSide{name: name, there: make(map[string]bool)}
	intercept := func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if !serverWrites(req) || w.row.slow == 0 {
			err := invoke(ctx, method, req, reply, conn, opts...)
			s.note(reply, err)
			return err
		}
		answered := make(chan error, 1)
		answer := reflect.New(reflect.TypeOf(reply).Elem()) // one that is not waited for must not be written to, nor its options
		go func() {
			time.Sleep(w.row.slow)
			err := invoke(context.WithoutCancel(ctx), method, req, answer.Interface(), conn)
			s.note(answer.Interface(), err)
			answered <- err
		}()
		select {
		case err := <-answered:
			reflect.ValueOf(reply).Elem().Set(answer.Elem())
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.client = w.etcd.Client(w.T, func(cfg *clientv3.Config) {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainUnaryInterceptor(intercept))
	})
	return s
}

// serverWrites reports whether a request changes what etcd has.
func serverWrites(req any) bool {
	switch req := req.(type) {
	case *pb.PutRequest, *pb.DeleteRangeRequest, *pb.LeaseGrantRequest, *pb.LeaseRevokeRequest:
		return true
	case *pb.TxnRequest:
		return slices.ContainsFunc(slices.Concat(req.Success, req.Failure), func(op *pb.RequestOp) bool { return op.GetRequestRange() == nil })
	}
	return false
}

func (s *serverSide) note(answer any, err error) {
	if grant, ok := answer.(*pb.LeaseGrantResponse); ok && err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.granted = append(s.granted, clientv3.LeaseID(grant.ID))
	}
}

// watch counts the entries of both sides, and the puts and deletes from now on.
func (w *serverWorld) watch() {
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	w.Cleanup(func() { end(); running.Wait() })
	now, err := w.etcd.Admin().Get(ctx, "", clientv3.WithPrefix())
	w.try(err)
	for _, kv := range now.Kvs {
		w.onEvent(&clientv3.Event{Type: clientv3.EventTypePut, Kv: kv})
	}
	events := w.etcd.Admin().Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(now.Header.Revision+1))
	running.Go(func() {
		for answer := range events {
			for _, event := range answer.Events {
				w.onEvent(event)
			}
		}
	})
}

func (w *serverWorld) onEvent(event *clientv3.Event) {
	key := string(event.Kv.Key)
	if strings.Contains(key, "touched") {
		return
	}
	for _, s := range []*serverSide{w.ours, w.plain} {
		if !strings.HasPrefix(key, s.name+"/") {
			continue
		}
		s.mu.Lock()
		if event.Type == clientv3.EventTypePut {
			s.puts++
			s.there[key] = true
		} else {
			s.deletes++
			delete(s.there, key)
		}
		s.mu.Unlock()
	}
}

// has returns how many entries a side has in etcd.
func (s *serverSide) has() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.there)
}

func (s *serverSide) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts, s.deletes = 0, 0
}

// bothThere waits until plain code has its entries in etcd, and then for ours.
func (w *serverWorld) bothThere(when string) {
	w.Helper()
	for _, s := range []*serverSide{w.plain, w.ours} {
		kit.Eventually(w.T, serversSoon, s.name+" has its entries in etcd "+when, func() bool { return s.has() == max(1, w.row.entries) })
	}
}

// left returns how many leases of a side are in etcd, those with keys aside.
func (w *serverWorld) left(s *serverSide) (n int) {
	s.mu.Lock()
	granted := slices.Clone(s.granted)
	s.mu.Unlock()
	for _, id := range granted {
		lease, err := w.etcd.Admin().TimeToLive(kit.Bounded(w.T, serversSoon), id, clientv3.WithAttachedKeys())
		if err == nil && lease.TTL >= 0 && len(lease.Keys) == 0 {
			n++
		}
	}
	return n
}

// judge compares the two sides, and ends ours.
func (w *serverWorld) judge() {
	w.bothThere("in the end")
	kit.Eventually(w.T, serversSoon, "ours leaves no lease behind", func() bool { return w.left(w.ours) <= w.left(w.plain) })
	w.ours.mu.Lock()
	w.plain.mu.Lock()
	w.Logf("%s: ours made %d puts and %d deletes of entries that nobody touched, plain code %d and %d",
		w.row.name, w.ours.puts, w.ours.deletes, w.plain.puts, w.plain.deletes)
	if w.ours.puts > w.plain.puts || w.ours.deletes > w.plain.deletes {
		w.Error("ours is worse")
	}
	w.plain.mu.Unlock()
	w.ours.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), serversSoon)
	defer cancel()
	if err := w.registry.Close(ctx); err != nil {
		w.Logf("close: %v", err)
	}
	kit.Eventually(w.T, serversSoon, "ours is out of etcd", func() bool { return w.ours.has() == 0 && w.left(w.ours) == 0 })
}
