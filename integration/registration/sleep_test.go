//go:build unix

package registration

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestProcessSleeps stops a process until its lease has expired. The process is
// the test itself, with an environment variable.
func TestProcessSleeps(t *testing.T) {
	const sleeper = "REGISTRATION_TEST_ETCD"
	if endpoint := os.Getenv(sleeper); endpoint != "" {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
		kit.Must(t, err)
		registry := runtime.NewRegistry(client, runtime.WithLeaseTTL(5*time.Second))

		// may be stopped before it returns
		_, err = registry.Register(kit.Context(t), key, runtime.Endpoint{Addr: addr(0)})
		kit.Must(t, err)
		select {} // until the process is killed
	}

	leak.Parallel(t)
	w := newWorld(t, nil)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), sleeper+"="+w.etcd.Endpoints()[0])
	cmd.Stderr = os.Stderr
	kit.Must(t, cmd.Start())

	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})

	w.there(entry, 0)
	was := w.get(entry).lease
	kit.Must(t, cmd.Process.Signal(syscall.SIGSTOP))
	kit.Eventually(t, "expired", func() bool { return w.get(entry) == nil })
	kit.Must(t, cmd.Process.Signal(syscall.SIGCONT))
	w.there(entry, was)
}
