package discovery

import (
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

const (
	allConfigs = "_grpc_config/"
	hasty      = `{"methodConfig":[{"name":[{}],"timeout":"0.000000001s"}]}` // fails every call at once
)

// services returns a connection to each of some services, all of one server.
func (w *world) services(keys ...string) map[string]*grpc.ClientConn {
	w.t.Helper()
	s, conns := w.serve("a"), make(map[string]*grpc.ClientConn)
	for _, k := range keys {
		w.put(k+"/a", s.addr)
		conns[k] = dial(w.t, w.registry, greeterAt(k))
		reached(w.t, conns[k], soon, "a")
	}
	return conns
}

// goesBy waits until a service's calls fail by the live config, or do not.
func goesBy(t *testing.T, conn *grpc.ClientConn, config bool) {
	t.Helper()
	kit.Eventually(t, soon, fmt.Sprintf("calls go by the live config: %v", config), func() bool {
		_, err := within(conn, soon)
		return config == (status.Code(err) == codes.DeadlineExceeded) && (config || err == nil)
	})
}

// TestEachLiveConfigIsWatchedAlone writes and deletes the live configs of two services (K21), closes and reopens a connection, and
// restores etcd from a backup.
func TestEachLiveConfigIsWatchedAlone(t *testing.T) {
	w := newWorld(t, nil)
	w.put(allConfigs+"x/b", hasty)
	conns := w.services("x/a")
	goesBy(t, dial(t, w.registry, greeterAt("x/b")), true) // which has no endpoint of its own, and needs none for that
	w.put(allConfigs+"x/a", hasty)
	goesBy(t, conns["x/a"], true)
	backup, err := w.etcd.Backup()
	must(t, err)
	w.delete(allConfigs + "x/a")
	goesBy(t, conns["x/a"], false)
	must(t, w.etcd.RestoreBackup(backup))
	goesBy(t, conns["x/a"], true)
	must(t, conns["x/a"].Close())
	w.delete(allConfigs + "x/a")
	again := dial(t, w.registry, greeterAt("x/a"))
	goesBy(t, again, false)
	w.put(allConfigs+"x/a", hasty)
	goesBy(t, again, true)
	all, own := w.etcd.Calls().Count(etcdtest.Watch, allConfigs), w.etcd.Calls().Count(etcdtest.Watch, allConfigs+"x/")
	if own == 0 || all != own {
		t.Errorf("of %d watches of live configs %d are of one key", all, own)
	}
}
