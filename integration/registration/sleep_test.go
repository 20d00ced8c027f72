//go:build unix

package registration

import (
	"syscall"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

func TestProcessSleeps(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	p, etcdKey := w.process()
	was := w.get(etcdKey).lease
	kit.Must(t, p.Signal(syscall.SIGSTOP))
	kit.Eventually(t, kit.Soon, "expired", func() bool { return w.get(etcdKey) == nil })
	kit.Must(t, p.Signal(syscall.SIGCONT))
	w.there(etcdKey, was)
}
