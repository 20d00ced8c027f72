//go:build unix

package discovery

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestK8_ASnapshotDirectoryThatHangs starts on a directory that is a pipe nobody writes to.
func TestK8_ASnapshotDirectoryThatHangs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(dir, 0o600); err != nil {
		t.Skip(err)
	}
	w := newWorld(t, nil, runtime.WithSnapshotDir(dir))
	w.register(w.serve("a"))
	reached(t, w.conn(), soon, "a")
	began := time.Now()
	if err := w.registry.Close(kit.Bounded(t, soon)); err != nil {
		t.Error(err)
	}
	report.Took(t, "K8", "Close", time.Since(began))
}
