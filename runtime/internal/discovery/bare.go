package discovery

import (
	"errors"
	"slices"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// errPending is the error of calls while the endpoints are not known yet.
var errPending = errors.New("the endpoints are not known yet")

// endpointsBare returns the endpoints for a policy that is above ours, and for the policy of a bare resolver. If all of them are held,
// and so may be dead, the fallback's are added.
func (c *conn) endpointsBare(s *attr.State) (update resolver.State, err error) {
	endpoints := s.Endpoints
	if len(endpoints) <= len(s.Held) {
		endpoints = s.All()
	}
	switch {
	case len(endpoints) == 0 && s.Pending():
		return update, errPending
	case len(endpoints) == 0 && !c.served:
		// Before the first state, calls fail with this error under any policy. After that, such a policy returns its own error.
		return update, s.Err
	case c.list != nil && slices.Equal(endpoints, c.list.Endpoints):
		return c.list.lists, nil
	}
	return attr.Lists(endpoints), nil
}
