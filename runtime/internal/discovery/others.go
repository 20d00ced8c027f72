package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
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
	}
	return c.lists(endpoints), nil
}

// endpointsAlone returns the endpoints for a policy of another package, those of [plan.Plan.Choose], and whether the fallback's are among
// them. They are not limited by WithSubset or Limits.Connections, because such a policy does not replace the dead endpoints of a
// subset. The error says why there are none.
func (c *conn) endpointsAlone(s *attr.State, alone *serviceconfig.Alone) (update resolver.State, leaves bool, err error) {
	given := cmp.Or(c.opts.Client, new(attr.Client)) // a bare resolver has none
	client := given.Client
	client.Subset, client.Most = 0, 0
	in := s.Input(plan.NewConfig(alone.Etcd), &client)
	p := plan.Make(&in)
	if given.Subset > 0 {
		p.Reports = append(p.Reports, fmt.Sprintf("WithSubset has no effect with the policy %q, which connects to all endpoints", alone.Name))
	}
	if !s.Pending() { // otherwise drain would seem to name endpoints that do not exist
		given.Tell(p.Reports, c.told)
		c.told = p.Reports
	}
	switch endpoints := p.Choose(); {
	case p.Live == 0 && s.Pending() && len(p.Fallback()) == 0:
		return update, false, errPending
	case len(endpoints) > 0:
		return c.lists(endpoints), len(p.Fallback()) > 0 && len(endpoints) != p.Live, nil
	}
	return update, false, p.Empty
}

// lists returns endpoints in gRPC's forms: those of the key's last list, if the endpoints are the same.
func (c *conn) lists(endpoints []*Backend) resolver.State {
	if c.list != nil && slices.Equal(endpoints, c.list.Endpoints) {
		return c.list.lists
	}
	return attr.Lists(endpoints)
}

// tellLeaves calls Client.CallsLeave when a policy of another package gets the fallback's endpoints, or no longer has them.
func (c *conn) tellLeaves(leaves bool) {
	if client := c.opts.Client; c.leaves != leaves && client != nil && client.CallsLeave != nil {
		client.CallsLeave(leaves)
	}
	c.leaves = leaves
}
