package balancer

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// selectFrom returns the endpoints that the connection's selector selects.
func (p *plan) selectFrom(endpoints []resolver.Endpoint) []resolver.Endpoint {
	left := selected(endpoints, p.in.client)
	if len(left) == 0 && p.instead == nil {
		text := fmt.Sprintf("etcd: none of the %d endpoints of %q is selected for this connection", len(endpoints), p.in.service)
		if drained := len(p.in.endpoints) - len(endpoints); drained > 0 {
			text += fmt.Sprintf(" (%d more are drained)", drained)
		}
		p.instead = &instead{connectivity.TransientFailure, errors.New(text)}
	}
	return left
}

// selected returns the endpoints that a connection's selector selects.
func selected(endpoints []resolver.Endpoint, client *attr.Client) []resolver.Endpoint {
	if client.Selector == nil {
		return endpoints
	}
	left := make([]resolver.Endpoint, 0, len(endpoints))
	for i := range endpoints {
		if isSelected(&endpoints[i], client) {
			left = append(left, endpoints[i])
		}
	}
	return left
}

// isSelected reports whether a connection's selector, if it has one, selects an endpoint.
func isSelected(ep *resolver.Endpoint, client *attr.Client) bool {
	e := attr.Endpoint(*ep)
	return client.Selector == nil || e == nil || client.Selector(e)
}
