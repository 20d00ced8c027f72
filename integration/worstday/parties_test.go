package worstday

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// party is a process that has entries in etcd. A row does the same with both
// kinds of parties: ours and plain.
type party interface {
	register(ctx context.Context, from, to int) error // puts the entries in [from, to)
	update(ctx context.Context) error                 // sets entry 0 to a value with "v2"
	pause(ctx context.Context) error                  // pauses the entry with the highest number
	resume(ctx context.Context) error
	serve(ctx context.Context) error // starts a server of one service, with a health service
	health(ctx context.Context, serving bool) error
	withdraw(ctx context.Context) error
	end(ctx context.Context) error
}

func addr(number int) string {
	return fmt.Sprintf("10.0.%d.%d:9000", number/250, number%250+1)
}

// policy says how often a process tries, and how long a try may take.
type policy struct {
	tries int
	try   time.Duration
}

// do calls f until it returns nil, at most p.tries times, and returns the last
// error. After a failed try, do waits until the time of that try is over.
func (p policy) do(ctx context.Context, f func(context.Context) error) (err error) {
	for i := range p.tries {
		try, cancel := context.WithTimeout(ctx, p.try)
		err = f(try)
		if err != nil && i+1 < p.tries {
			<-try.Done()
		}

		cancel()

		if err == nil {
			break
		}
	}

	return err
}

// plain is a process with code that a user would write by hand: grant, put,
// keep-alive, delete and revoke, with a few tries each.
type plain struct {
	client *clientv3.Client
	prefix string
	batch  int // how many puts a transaction has
	writes *policy
	ends   policy
	last   int // the highest number

	mu    sync.Mutex
	lease clientv3.LeaseID
	quit  context.CancelFunc
}

// leased returns the lease. lost is the lease that the caller has lost, or 0.
// If it is still the present lease, leased grants a new lease.
func (p *plain) leased(ctx context.Context, lost clientv3.LeaseID) (clientv3.LeaseID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.lease != lost {
		return p.lease, nil
	}

	resp, err := p.client.Grant(ctx, 15)
	if err != nil {
		return 0, err
	}

	if p.quit != nil {
		p.quit()
	}

	p.lease = resp.ID
	alive, quit := context.WithCancel(background)
	p.quit = quit
	answers, err := p.client.KeepAlive(alive, p.lease)
	go func() {
		for range answers { // closed by quit
		}
	}()

	return p.lease, err
}

// put puts the entries with the numbers in [from, to).
func (p *plain) put(ctx context.Context, from, to int, value string) error {
	if to > from+p.batch {
		var first error
		var both sync.WaitGroup
		both.Go(func() { first = p.put(ctx, from, from+p.batch, value) })
		rest := p.put(ctx, from+p.batch, to, value)
		both.Wait()

		return errors.Join(first, rest)
	}

	return p.writes.do(ctx, func(ctx context.Context) error {
		var lost clientv3.LeaseID
		for {
			lease, err := p.leased(ctx, lost)
			if err != nil {
				return err
			}

			var puts []clientv3.Op
			for i := from; i < to; i++ {
				puts = append(puts,
					clientv3.OpPut(p.prefix+"svc/"+addr(i), value, clientv3.WithLease(lease)))
			}

			_, err = p.client.Txn(ctx).Then(puts...).Commit()
			if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				return err
			}

			lost = lease
		}
	})
}

func (p *plain) register(ctx context.Context, from, to int) error {
	p.last = to - 1
	return p.put(ctx, from, to, "v1")
}

func (p *plain) pause(ctx context.Context) error {
	return p.ends.do(ctx, func(ctx context.Context) error {
		_, err := p.client.Delete(ctx, p.prefix+"svc/"+addr(p.last))
		return err
	})
}

func (p *plain) end(ctx context.Context) error {
	if p.quit == nil {
		return nil
	}

	p.quit()

	return p.ends.do(ctx, revoke(p.client, p.lease))
}

func revoke(client *clientv3.Client, lease clientv3.LeaseID) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := client.Revoke(ctx, lease)
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}

		return nil
	}
}

func (p *plain) update(ctx context.Context) error {
	return p.put(ctx, 0, 1, "v2")
}
func (p *plain) resume(ctx context.Context) error {
	return p.put(ctx, p.last, p.last+1, "v1")
}
func (p *plain) serve(ctx context.Context) error {
	return p.resume(ctx)
}
func (p *plain) withdraw(ctx context.Context) error {
	return p.end(ctx)
}
func (p *plain) health(ctx context.Context, serving bool) error {
	if serving {
		return p.resume(ctx)
	}

	return p.pause(ctx)
}

// ours is a process that uses the runtime.
type ours struct {
	t        testing.TB
	registry *runtime.Registry
	entries  [1000]*runtime.Registration // by number
	last     int                         // the highest number
	checks   *grpchealth.Server
	server   *runtime.Server
	stop     func() error // ends Serve, and returns its result
}

func (c *cell) newOurs(client *clientv3.Client, prefix string) *ours {
	return &ours{
		t:        c.t,
		registry: kit.Registry(c.t, io.Discard, client, runtime.WithNamespace(prefix)),
	}
}

func (o *ours) register(ctx context.Context, from, to int) error {
	errs := make([]error, to)
	var wg sync.WaitGroup
	for i := from; i < to; i++ {
		wg.Go(func() {
			if o.entries[i] == nil {
				o.entries[i], errs[i] = o.registry.Register(ctx, "svc",
					runtime.Endpoint{Addr: addr(i)})
			}
		})
	}

	wg.Wait()
	o.last = to - 1

	return errors.Join(errs...)
}

func (o *ours) update(ctx context.Context) error {
	return o.entries[0].Update(ctx, runtime.WithMetadata("mark", "v2"))
}

func (o *ours) pause(ctx context.Context) error {
	return o.entries[o.last].Pause(ctx)
}
func (o *ours) resume(ctx context.Context) error {
	return o.entries[o.last].Resume(ctx)
}

func (o *ours) serve(ctx context.Context) error {
	o.checks = grpchealth.NewServer()
	o.server = o.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(10*ms))
	healthpb.RegisterHealthServer(o.server, o.checks)
	basic.RegisterGreeterServerToEtcd(o.server, struct {
		basic.UnimplementedGreeterServer
	}{})
	lis := kit.Listen(o.t)
	running, quit := context.WithCancel(background)
	served := make(chan error, 1)
	go func() { served <- o.server.Serve(running, lis) }()

	o.stop = func() error {
		quit()
		return <-served
	}
	for {
		st := o.server.Status()
		if len(st) == 1 && st[0].State == runtime.StateRegistered {
			return nil
		}

		select {
		case err := <-served:
			o.stop = nil
			return fmt.Errorf("Serve: %w", err)
		case <-ctx.Done(): // the next try calls Serve again
			_ = o.stop()
			o.stop = nil

			return ctx.Err()

		case <-time.After(10 * ms):
		}
	}
}

func (o *ours) health(_ context.Context, serving bool) error {
	st := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		st = healthpb.HealthCheckResponse_SERVING
	}

	o.checks.SetServingStatus(basic.Greeter_ServiceDesc.ServiceName, st)

	return nil
}

func (o *ours) withdraw(ctx context.Context) error {
	return o.server.Withdraw(ctx)
}

func (o *ours) end(ctx context.Context) error {
	var err error
	if o.stop != nil {
		err = o.stop()
	}

	return errors.Join(err, o.registry.Close(ctx))
}
