//go:build unix

package discovery

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/listwatch"
)

func TestK8_APipeWhereTheDirectoryShouldBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(dir, 0o600); err != nil {
		t.Skip(err)
	}
	d := newTestDisk(dir)
	d.save(place{Range: listwatch.Range{From: "k"}}, &saved{[]*Backend{newBackend(endpoint.Endpoint{Instance: "a", Addr: "a:1"}, endpoint.EndpointJSON)}, 1})
	d.close()
	<-d.done // nothing hangs in the pipe
	if info, err := os.Stat(dir); err != nil || info.Mode().IsRegular() {
		t.Errorf("the pipe became %v, %v", info, err)
	}
}
