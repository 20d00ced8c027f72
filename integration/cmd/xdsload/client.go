package main

import (
	"context"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const types = "type.googleapis.com/envoy.config."

// client asks for services as gRPC's clients do, and acknowledges what it is told. It keeps nothing.
type client struct {
	conn    *grpc.ClientConn
	stream  discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	names   []string
	onLoad  func(time.Time) // called for each answer about endpoints
	onFirst func()          // called once all services were told
}

func dial(id string, names []string) (*client, error) {
	conn, err := grpc.NewClient(listen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, names: names, onFirst: func() {}}
	if c.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(context.Background()); err != nil {
		return nil, err
	}
	for i, kind := range []string{"listener.v3.Listener", "route.v3.RouteConfiguration", "cluster.v3.Cluster", "endpoint.v3.ClusterLoadAssignment"} {
		r := &discoveryv3.DiscoveryRequest{TypeUrl: types + kind, ResourceNames: names}
		if i == 0 {
			r.Node = &corev3.Node{Id: id, UserAgentName: "xdsload"}
		}
		if err := c.stream.Send(r); err != nil {
			return nil, fmt.Errorf("ask for %s: %w", kind, err)
		}
	}
	return c, nil
}

func (c *client) close() { c.conn.Close() }

// run acknowledges what comes until the connection ends.
func (c *client) run() {
	told := 0
	for {
		r, err := c.stream.Recv()
		if err != nil {
			return
		}
		if err := c.stream.Send(&discoveryv3.DiscoveryRequest{
			TypeUrl: r.GetTypeUrl(), VersionInfo: r.GetVersionInfo(), ResponseNonce: r.GetNonce(), ResourceNames: c.names,
		}); err != nil {
			return
		}
		if r.GetTypeUrl() == types+"endpoint.v3.ClusterLoadAssignment" {
			c.onLoad(time.Now())
			before := told
			if told += len(r.GetResources()); before < len(c.names) && told >= len(c.names) {
				c.onFirst()
			}
		}
	}
}
