package xds

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

const types = "type.googleapis.com/envoy.config."

// rawClient is a client that says what a test has it say.
type rawClient struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func (w *world) raw() *rawClient {
	w.t.Helper()
	conn, err := grpc.NewClient(w.bridges[0].addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(kit.Bounded(w.t, 2*soon))
	must(w.t, err)
	return &rawClient{w.t, stream}
}

func (c *rawClient) ask(kind string, names ...string) {
	c.t.Helper()
	must(c.t, c.stream.Send(&discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: strings.Repeat("x", 10_000)}, TypeUrl: types + kind, ResourceNames: names}))
}

func (c *rawClient) read() *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	r, err := c.stream.Recv()
	must(c.t, err)
	return r
}

// Clients that behave badly are told what there is to tell, and keep nothing from others.
func TestBadClients(t *testing.T) {
	w := newWorld(t, "")
	w.add("a")
	good := w.goClient("")
	eventually(t, good, calls(5), "answered", only("a"))

	t.Run("thousands of names that are not there", func(t *testing.T) {
		names := []string{"acme.echo", "", "a/b", "\x00"}
		for i := range 5000 {
			names = append(names, fmt.Sprint("no.such.", i))
		}
		c := w.raw()
		c.ask("listener.v3.Listener", names...)
		if r := c.read(); len(r.GetResources()) != 1 {
			t.Errorf("%d listeners", len(r.GetResources()))
		}
		c.ask("cluster.v3.Cluster", append(names, "acme.echo/no=such")...)
		if r := c.read(); len(r.GetResources()) != 2 { // the latter may be one of before
			t.Errorf("%d clusters", len(r.GetResources()))
		}
		many := make([]string, 10_001)
		for i := range many {
			many[i] = fmt.Sprint(i)
		}
		c.ask("route.v3.RouteConfiguration", many...)
		if _, err := c.stream.Recv(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("too many names: %v", err)
		}
	})
	t.Run("what is no type, and requests that are out of date", func(t *testing.T) {
		c := w.raw()
		c.ask("nothing", "acme.echo")
		must(t, c.stream.Send(&discoveryv3.DiscoveryRequest{}))
		must(t, c.stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: types + "listener.v3.Listener", ResponseNonce: "7", ResourceNames: []string{"acme.echo"}}))
		c.ask("listener.v3.Listener", "acme.echo")
		if r := c.read(); len(r.GetResources()) != 1 {
			t.Errorf("%d listeners", len(r.GetResources()))
		}
	})
	t.Run("one that refuses everything, and one that never answers", func(t *testing.T) {
		refuses, silent := w.raw(), w.raw()
		silent.ask("endpoint.v3.ClusterLoadAssignment", "acme.echo")
		first := silent.read()
		refuses.ask("endpoint.v3.ClusterLoadAssignment", "acme.echo")
		for i := range 10 {
			r := refuses.read()
			must(t, refuses.stream.Send(&discoveryv3.DiscoveryRequest{
				TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ResourceNames: []string{"acme.echo"},
				ErrorDetail: &rpcstatus.Status{Message: "I do not like it\n" + strings.Repeat("y", 10_000)},
			}))
			w.add(fmt.Sprint("b", i))
		}
		eventually(t, good, calls(30), "the others told", func(o outcome) bool { return len(o.By) == 11 && len(o.Errors) == 0 })
		told := 0
		for _, client := range w.bridges[0].Status().Clients {
			for _, kind := range client.Types {
				switch {
				case strings.HasPrefix(kind.Refused, "I do not like it"):
					told++
				case kind.Pending && kind.Version == first.GetVersionInfo():
					told++
				}
				if len(kind.Refused) > 400 || len(client.ID) > 400 {
					t.Errorf("the status holds texts of %d and %d bytes", len(kind.Refused), len(client.ID))
				}
			}
		}
		if told != 2 {
			t.Errorf("the status does not tell of both: %+v", w.bridges[0].Status().Clients)
		}
	})
}

// What is hostile in etcd reaches no client: the rest of the service does.
func TestHostileEntries(t *testing.T) {
	w := newWorld(t, "")
	w.add("a", runtime.WithZoneTag("z\u202e"))
	admin, key := etcd.Admin(), w.namespace+w.desc.Key+"/"
	for name, value := range map[string]string{
		"unix": `{"Addr":"unix:/x"}`, "name": `{"Addr":"db.example:80"}`, "twin": `{"Addr":"` + w.add("b").addr + `"}`, "zero": `{"Addr":"127.0.0.1:0"}`,
		"weight": `{"Addr":"127.0.0.2:1","Metadata":{"weight":4294967295}}`, "weight2": `{"Addr":"127.0.0.2:2","Metadata":{"weight":4294967295}}`,
		"long": `{"Addr":"127.0.0.3:1","Metadata":{"x":"` + strings.Repeat("x", 100_000) + `"}}`, "bytes\xff\xfe": `{"Addr":"127.0.0.4:1","Metadata":{"version":"` + "\xff" + `"}}`,
		"methods": `{"Addr":"127.0.0.5:1","Metadata":{"grpc_methods":"/;a/;;b//c,` + strings.Repeat("a/b;", 1000) + `"}}`,
	} {
		_, err := admin.Put(context.Background(), key+name, value)
		must(t, err)
	}
	for _, config := range []string{
		"", `{"loadBalancingConfig":[{"etcd_weighted":{}}]}`, `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity","maxRingSize":8388608}}]}`,
		policy(`"split":[{"match":{"version":"\u0000/\"="},"weight":4294967295},{"match":{"zone":""},"weight":4294967295}]`),
		policy(`"route":[{"label":"instance"}],"preferZone":true`), policy(`"subset":3`),
	} {
		w.set(config)
		c := w.goClient("z")
		o := calls(20).with("etcd-affinity", "x")
		o.Wait = true
		eventually(t, c, o, "answered under "+config, func(o outcome) bool { return o.By["a"]+o.By["b"] > 0 })
	}
	if n := w.logs.Count("refuses (NACK)"); n > 0 {
		t.Errorf("%d answers are refused", n)
	}
}
