package world

import (
	"context"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

func (w *World) serverKilled(ctx context.Context, s schedule.Step) {
	w.servers[s.Who].kill()
	w.startAgain(ctx, s)
}

func (w *World) serverRestarts(ctx context.Context, s schedule.Step) {
	w.servers[s.Who].stop(ctx)
	w.startAgain(ctx, s)
}

// startAgain starts a server that has ended, changed as the step says.
func (w *World) startAgain(ctx context.Context, s schedule.Step) {
	time.Sleep(s.For)
	server := w.servers[s.Who]
	server.do(func() {
		if s.N == 1 {
			server.port++
		}
		switch s.Text {
		case schedule.WithNewer:
			server.spec.Newer = true
		case schedule.WithoutNewer:
			server.spec.Newer = false
		}
	})
	server.start(ctx)
}

// twinStarts starts another process under the instance id of a server, and stops it in order.
func (w *World) twinStarts(ctx context.Context, s schedule.Step) {
	twin := w.twins[s.Who]
	twin.start(ctx)
	time.Sleep(s.For)
	twin.stop(ctx)
}

func (w *World) callerRestarts(ctx context.Context, s schedule.Step) {
	c := w.caller(s.Who)
	c.stop(ctx)
	c.start(ctx)
}

func (w *World) writerDies(ctx context.Context, s schedule.Step) {
	o := w.writer(s.Who)
	o.kill()
	time.Sleep(s.For)
	o.start(ctx)
}
