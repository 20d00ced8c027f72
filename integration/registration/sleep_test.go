//go:build unix

package registration

import (
	"syscall"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
)

func TestG14_ProcessSleeps(t *testing.T) {
	w := newWorld(t, nil)
	p, etcdKey := w.process()
	was := w.get(etcdKey).lease
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, soon, "expired", func() bool { return w.get(etcdKey) == nil })
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	took := w.there(etcdKey, was)
	report.Took(t, "G14", "back after the process slept longer than the TTL", took)
}
