package steer

import (
	"cmp"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Splitting says how a live policy that a split has to begin is made.
type Splitting struct {
	Child    string // what it balances by; "": round_robin
	NoRoutes bool   // it may lack routes, though instances say their lanes
}

// Split divides the calls among groups.
func (o *Splitting) Split(s *survey.Service, c *liveconfig.Config, splits []serviceconfig.Split) error {
	if !c.NamesPolicy() && !o.NoRoutes {
		if err := checkNoLanes(s.Merged()); err != nil {
			return err
		}
	}
	child, err := liveconfig.ChildPolicy(cmp.Or(o.Child, "round_robin"))
	if err != nil {
		return err
	}
	drained, err := c.Drained()
	if err != nil {
		return err
	}
	if err := c.SetDrained(drained, child); err != nil {
		return err
	}
	return c.Set("split", splits)
}
