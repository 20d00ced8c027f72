package harness

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

func TestWarningsAreJudged(t *testing.T) {
	for killed, want := range map[int]int{1: 0, 2: len(troubles)} { // by the life that was killed
		w := newWorld(schedule.New(1), network.New())
		w.network.Remove(w.Plan.DialHost(0, killed))
		log := lifeLog{&counter{logged: func(string, string) {}}, new(atomic.Bool), w, "server 0", 0, 1}
		for line := range troubles {
			_ = log.Handle(t.Context(), slog.Record{Message: line})
		}
		w.Etcd.Close()
		if problems, _ := w.Result(); len(problems) != want || want > 0 && problems[0].Rule != check.Warned {
			t.Errorf("life 1 warns, and life %d was killed: %v", killed, problems)
		}
	}
}
