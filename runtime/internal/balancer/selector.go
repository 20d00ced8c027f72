package balancer

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// whyEmpty returns why no endpoint is live. selectable is how many endpoints are not drained.
func (in *input) whyEmpty(selectable int) error {
	switch {
	case len(in.endpoints) > 0:
		text := fmt.Sprintf("etcd: none of the %d endpoints of %q is selected for this connection", selectable, in.service)
		if drained := len(in.endpoints) - selectable; drained > 0 {
			text += fmt.Sprintf(" (%d more are drained)", drained)
		}
		return errors.New(text)
	case in.err != nil:
		return in.err
	}
	return fmt.Errorf("etcd: no endpoint of %q is known", in.service)
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
