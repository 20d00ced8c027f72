package balancer

import (
	"sync"
	"testing"
)

// TestWhatIsLostMeanwhileIsNotPicked looks at a connection that comes and goes meanwhile: what is to take calls is never
// empty, and calls wait while it connects.
func TestWhatIsLostMeanwhileIsNotPicked(t *testing.T) {
	p := planOf(t, `{}`, ends("a"))
	_ = standOf(p, "a")
	v, x := p.find(p.base, "").first, p.conns[0]
	stop := make(chan struct{})
	var flips sync.WaitGroup
	flips.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				x.now.Store(untried)
				x.now.Store(&condition{kind: ready})
			}
		}
	})
	for range 100_000 {
		if s := v.survey(1, nil); len(s.groups) > 0 && len(s.groups[0].sets[0].conns) == 0 || s.yields {
			t.Error("there are none to be picked from, or calls do not wait")
			break
		}
	}
	close(stop)
	flips.Wait()
}
