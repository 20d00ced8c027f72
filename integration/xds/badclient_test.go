package xds

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

const types = "type.googleapis.com/envoy.config."

// rawClient is an xDS client whose requests the test writes.
type rawClient struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func (w *world) raw() *rawClient {
	w.t.Helper()

	conn, err := grpc.NewClient(w.bridges[0].addr, kit.Insecure)
	kit.Must(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(
		kit.Bounded(w.t, 2*kit.Soon))
	kit.Must(w.t, err)

	return &rawClient{w.t, stream}
}

func (c *rawClient) ask(kind string, names ...string) {
	c.t.Helper()
	kit.Must(c.t, c.stream.Send(&discoveryv3.DiscoveryRequest{
		Node:          &corev3.Node{Id: strings.Repeat("x", 10_000)},
		TypeUrl:       types + kind,
		ResourceNames: names,
	}))
}

func (c *rawClient) read() *discoveryv3.DiscoveryResponse {
	c.t.Helper()

	r, err := c.stream.Recv()
	kit.Must(c.t, err)

	return r
}

// The status is current. It shows a client that rejects every response, and a
// client that acknowledges none. A third client gets all new endpoints.
func TestBadClients(t *testing.T) {
	w := newWorld(t, "")
	w.add("a")
	good := w.goClient("")
	refuses := w.raw()
	silent := w.raw()
	silent.ask("endpoint.v3.ClusterLoadAssignment", "acme.echo")
	first := silent.read()
	w.add("c")
	kit.Eventually(t, "the status has an endpoint that no client was sent", func() bool {
		return w.bridges[0].Status().Hosts[0].Endpoints == 2
	})
	refuses.ask("endpoint.v3.ClusterLoadAssignment", "acme.echo")

	for i := range 3 {
		r := refuses.read()
		kit.Must(t, refuses.stream.Send(&discoveryv3.DiscoveryRequest{
			TypeUrl:       r.GetTypeUrl(),
			ResponseNonce: r.GetNonce(),
			ResourceNames: []string{"acme.echo"},
			ErrorDetail: &rpcstatus.Status{
				Message: "I do not like it\n" + strings.Repeat("y", 10_000),
			},
		}))

		w.addEntry(fmt.Sprint("b", i), `"grpc_methods":"acme.Echo/Say"`)
	}

	w.eventually(good, calls(20), "calls of the good client reach the new servers",
		only("a", "b0", "b1", "b2", "c"))

	told := 0
	for _, client := range w.bridges[0].Status().Clients {
		for _, kind := range client.Types {
			if strings.HasPrefix(kind.Refused, "I do not like it") ||
				kind.Pending && kind.Version == first.GetVersionInfo() {
				told++
			}

			if len(kind.Refused) > 400 || len(client.ID) > 400 {
				t.Errorf(
					"a client's error and id in the status: %d and %d bytes, want at most 400 each",
					len(kind.Refused), len(client.ID))
			}
		}
	}

	if told != 2 {
		t.Errorf("the status shows %d bad clients, want 2: %+v", told,
			w.bridges[0].Status().Clients)
	}
}
