package seeds

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/resolver"
)

// tutorialServer is an entry of a tutorial's registry that many services copied.
type tutorialServer struct {
	Name    string `json:"name"`
	Addr    string `json:"addr"`
	Version string `json:"version"`
	Weight  int64  `json:"weight"`
}

// tutorialKey returns the etcd key of a server, with the version in it if the fleet has it there.
func tutorialKey(s tutorialServer, inKey bool) string {
	if inKey {
		return "/" + s.Name + "/" + s.Version + "/" + s.Addr
	}
	return "/" + s.Name + "/" + s.Addr
}

// tutorialEntry is a registration: a key on a lease that is kept alive. When the lease ends, the key is put on a new one.
type tutorialEntry struct {
	w          *world
	key, value string
	ttl        time.Duration
	lease      clientv3.LeaseID
	answers    <-chan *clientv3.LeaseKeepAliveResponse
	unregister func()
}

func (w *world) tutorialRegister(s tutorialServer, inKey bool, ttl time.Duration) *tutorialEntry {
	w.t.Helper()
	value, err := json.Marshal(s)
	must(w.t, err)
	e := &tutorialEntry{w: w, key: tutorialKey(s, inKey), value: string(value), ttl: ttl}
	ctx, cancel := context.WithCancel(context.Background())
	must(w.t, e.register(ctx))
	var running sync.WaitGroup
	running.Go(func() { e.keep(ctx) })
	e.unregister = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if _, err := w.theirs.Delete(bounded(w.t), e.key); err != nil {
			w.t.Error(err)
		}
		if _, err := w.theirs.Revoke(bounded(w.t), e.lease); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return e
}

func (e *tutorialEntry) register(ctx context.Context) error {
	lease, err := e.w.theirs.Grant(ctx, int64(e.ttl/time.Second))
	if err != nil {
		return err
	}
	e.lease = lease.ID
	if e.answers, err = e.w.theirs.KeepAlive(ctx, lease.ID); err != nil {
		return err
	}
	_, err = e.w.theirs.Put(ctx, e.key, e.value, clientv3.WithLease(lease.ID))
	return err
}

func (e *tutorialEntry) keep(ctx context.Context) {
	again := time.NewTicker(e.ttl)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, alive := <-e.answers:
			if alive {
				continue
			}
			e.answers = nil
		case <-again.C:
			if e.answers != nil {
				continue
			}
		}
		if err := e.register(ctx); err != nil && !ended(ctx, err) {
			e.w.t.Logf("tutorial: register %s again: %v", e.key, err)
		}
	}
}

// tutorialAddrs is the list of its resolver, which goes by addresses alone: it ignores a new weight of a known server, and
// takes the end of a deleted key for the address of the server that has gone.
type tutorialAddrs []resolver.Address

func (l *tutorialAddrs) apply(events []*clientv3.Event) {
	for _, event := range events {
		if event.Type == clientv3.EventTypeDelete {
			key := string(event.Kv.Key)
			addr := key[strings.LastIndexByte(key, '/')+1:]
			*l = slices.DeleteFunc(*l, func(known resolver.Address) bool { return known.Addr == addr })
			continue
		}
		var s tutorialServer
		if json.Unmarshal(event.Kv.Value, &s) != nil ||
			slices.ContainsFunc(*l, func(known resolver.Address) bool { return known.Addr == s.Addr }) {
			continue
		}
		*l = append(*l, resolver.Address{Addr: s.Addr, Attributes: attributes.New(tutorialWeight{}, s.Weight)})
	}
}

// tutorialWeight is the key of the weight among the attributes of an address.
type tutorialWeight struct{}

// tutorialResolver resolves tutorial:///user to the servers of all keys that begin with "/user/", whatever their version.
func (w *world) tutorialResolver() resolver.Builder {
	return peerResolver{"tutorial", func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error {
		var list tutorialAddrs
		return followPrefix(ctx, w.theirs, "/"+target.Endpoint()+"/", func(events []*clientv3.Event) {
			list.apply(events)
			update(slices.Clone(list))
		})
	}}
}

// tutorialConn returns a connection of that system, with its weighted balancer.
func (w *world) tutorialConn(name string) *grpc.ClientConn {
	w.t.Helper()
	return w.dial("tutorial:///"+name, w.tutorialResolver(), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"`+tutorialBalancer+`":{}}]}`))
}

const tutorialBalancer = "tutorial_weighted"

func init() {
	balancer.Register(base.NewBalancerBuilder(tutorialBalancer, tutorialPickers{}, base.Config{}))
}

type tutorialPickers struct{}

func (tutorialPickers) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	p := &tutorialPicker{}
	for conn, its := range info.ReadySCs {
		weight, _ := its.Address.Attributes.Value(tutorialWeight{}).(int64)
		p.nodes = append(p.nodes, tutorialNode{its.Address.Addr, conn, max(1, weight), 0})
	}
	slices.SortFunc(p.nodes, func(a, b tutorialNode) int { return cmp.Compare(a.addr, b.addr) })
	return p
}

// tutorialPicker picks by smooth weighted round robin, as nginx does.
type tutorialPicker struct {
	mu    sync.Mutex
	nodes []tutorialNode
}

type tutorialNode struct {
	addr            string
	conn            balancer.SubConn
	weight, current int64
}

func (p *tutorialPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var total int64
	best := &p.nodes[0]
	for i := range p.nodes {
		n := &p.nodes[i]
		n.current += n.weight
		total += n.weight
		if n.current > best.current {
			best = n
		}
	}
	best.current -= total
	return balancer.PickResult{SubConn: best.conn}, nil
}
