package discovery

import (
	"slices"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// bare returns the update with the endpoints for the policy of a bare resolver.
// If all of them are held, and so may be dead, the fallback's are added. ok is
// false if no update is due: calls wait for the first state or, if that has no
// endpoints, fail with the error that bare reports. After the first update, the
// policy returns its own error.
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
