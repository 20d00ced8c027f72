package harness

import (
	"context"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// fault carries a step out, and returns when it is over.
type fault func(t *trial, ctx context.Context, s schedule.Step)

// once returns a fault that is over at once.
func once(do func(t *trial, s schedule.Step)) fault {
	return func(t *trial, _ context.Context, s schedule.Step) { do(t, s) }
}

// lasts returns a fault that lasts for the step's time. What begins it returns what ends it.
func lasts(begin func(t *trial, s schedule.Step) (end func())) fault {
	return func(t *trial, _ context.Context, s schedule.Step) {
		end := begin(t, s)
		time.Sleep(s.For)
		end()
	}
}
