package discovery

import (
	"slices"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// bare returns the update with the endpoints for the policy of a bare resolver.
// If all of them are held, and so may be dead, bare adds the endpoints of the
// fallback. ok is false if no update is due. Calls then wait until the
// endpoints are known. If there are none and gRPC has got no update, bare
// reports the error with which calls fail. After the first update, the policy
// fails calls with its own error.
func (c *conn) bare(s *model.State) (update resolver.State, ok bool) {
	endpoints := s.Endpoints
	if len(endpoints) <= len(s.Held) {
		endpoints = s.All()
	}

	switch {
	case len(endpoints) == 0 && s.Pending():
		return update, false
	case len(endpoints) == 0 && !c.updated:
		c.cc.ReportError(s.Err)
		return update, false
	case slices.Equal(endpoints, c.list.Endpoints):
		return c.list.lists, true
	}

	return model.Lists(endpoints), true
}
