package seeds

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// tutorialLayout names the fields of that system's entries.
var tutorialLayout = runtime.JSONLayout(runtime.JSONFields{Addr: "addr", Version: "version", Weight: "weight"})

// tutorial is a tutorial's registry that many services copied. The fleet has the version in its keys.
var tutorial = system{
	name:      "a tutorial's",
	desc:      &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/user/v1", Layout: tutorialLayout},
	neighbour: "/user/v2",
	register: func(w *world, key, addr string) (leave func()) {
		return w.tutorialRegister(tutorialServer{"user", addr, strings.TrimPrefix(key, "/user/"), 1})
	},
	returns: true,
	dial:    (*world).tutorialConn,
}

func TestTutorial_TheirWriterOurClient(t *testing.T) {
	tutorial.theirWriterOurClient(t)
}

func TestTutorial_OurWriterTheirReader(t *testing.T) {
	tutorial.ourWriterTheirReader(t)
}

// tutorialServer is an entry of a tutorial's registry that many services copied.
type tutorialServer struct {
	Name    string `json:"name"`
	Addr    string `json:"addr"`
	Version string `json:"version"`
	Weight  int64  `json:"weight"`
}

// tutorialRegister registers a server.
func (w *world) tutorialRegister(s tutorialServer) (leave func()) {
	w.t.Helper()
	value, err := json.Marshal(s)
	must(w.t, err)
	return w.keepEntry(func(clientv3.LeaseID) string { return "/" + s.Name + "/" + s.Version + "/" + s.Addr }, string(value))
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

// tutorialConn returns a connection of that system, with its weighted balancer, to the servers of all keys that begin with
// "/user/", whatever their version.
func (w *world) tutorialConn() *grpc.ClientConn {
	w.t.Helper()
	follow := func(ctx context.Context, _ resolver.Target, update func([]resolver.Address)) error {
		var list tutorialAddrs
		return followPrefix(ctx, w.theirs, "/user/", func(events []*clientv3.Event) {
			list.apply(events)
			update(slices.Clone(list))
		})
	}
	return w.dial("tutorial:///user", peerResolver{"tutorial", follow},
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"`+tutorialBalancer+`":{}}]}`))
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
