package lease

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

// renewLeases begins the renewals that are due, now and later. They do not wait for the other calls, nor for each other. It must be
// called with mu held.
func (s *Session) renewLeases() {
	due, wait := s.core.Renewals(time.Now())
	for id, life := range due {
		s.wg.Go(func() { s.renew(id, life) })
	}
	s.renewal.Reset(wait)
}

func (s *Session) renew(id clientv3.LeaseID, life time.Duration) {
	answer, err := s.opts.Renewer.Renew(s.ctx, id, life)
	s.locked(func(c *reconcile.Core, now time.Time) {
		if err != nil {
			c.OnRenewalFailed(now, id, err)
			return
		}
		c.OnRenewal(now, id, time.Duration(answer.TTL)*time.Second, answer.GetRevision())
	})
	s.poke()
}
