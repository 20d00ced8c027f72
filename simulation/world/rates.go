package world

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

// watchOver watches over all processes until the returned function is called.
func (w *World) watchOver(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { w.measure(ctx) })
	watching.Go(func() { w.sample(ctx) })
	return func() {
		cancel()
		watching.Wait()
	}
}

// measure judges the rates of all processes, a window at a time. The last window is a part of one.
func (w *World) measure(ctx context.Context) {
	before := make(map[int]check.Counts)
	tick := time.NewTicker(check.Window)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		for i := range w.plan.Processes() {
			done := w.rules.askedBy(i)
			done.Lines, done.Dials = w.process(i).log.count(), int(w.process(i).dials.Load())
			w.observe(func(j *check.Judge) { j.Rate(time.Now(), w.plan.Name(i), done.Sub(before[i])) })
			before[i] = done
		}
	}
}

// dialEtcd dials as from the present life, and counts that.
func (p *process) dialEtcd() func(context.Context, string) (net.Conn, error) {
	dial := p.w.network.Dialer(p.from)
	return func(ctx context.Context, addr string) (net.Conn, error) {
		p.dials.Add(1)
		return dial(ctx, addr)
	}
}
