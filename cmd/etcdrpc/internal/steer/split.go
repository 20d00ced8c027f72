package steer

import (
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Split divides the calls among groups.
func (b *Beginning) Split(s *survey.Service, c *liveconfig.Config, splits []serviceconfig.Split) error {
	child, err := b.child(s.Merged(), c)
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
