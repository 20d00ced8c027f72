package lease

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// renewLeases begins the renewals that are due, now and later. They do not wait for the other calls, nor for each other. It must be
// called with mu held.
func (s *Session) renewLeases() {
	due, wait := s.core.renewals(time.Now())
	for id, life := range due {
		s.wg.Go(func() { s.renew(id, life) })
	}
	s.renewal.Reset(wait)
}

func (s *Session) renew(id clientv3.LeaseID, life time.Duration) {
	answer, err := s.opts.Renewer.Renew(s.ctx, id, life)
	s.locked(func(c *core, now time.Time) {
		if err != nil {
			c.onRenewalFailed(now, id, err)
			return
		}
		c.onRenewal(now, id, time.Duration(answer.TTL)*time.Second, answer.GetRevision())
	})
	s.poke()
}
