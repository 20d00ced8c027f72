package discovery

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// TestK21_LiveConfigsTogether has services whose live configs come and go, of which one is called later and another no more,
// and an etcd that becomes what it was.
func TestK21_LiveConfigsTogether(t *testing.T) {
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
	if n := w.etcd.Calls().Count(etcdtest.Watch, allConfigs+"x"); n > 0 {
		t.Errorf("%d live configs are watched by themselves", n)
	}
}

// TestK21_OthersFloodTheLiveConfigs has other services' live configs written without end: the process hears no more of them, and
// goes on as it did.
func TestK21_OthersFloodTheLiveConfigs(t *testing.T) {
	w := newWorld(t, nil)
	w.put(allConfigs+"x/a", hasty)
	conns := w.services("x/b")
	hurried := dial(t, w.registry, greeterAt("x/a"))
	goesBy(t, hurried, true)
	flood := strings.Repeat("x", 60_000)
	kit.Eventually(t, soon, "each live config is watched by itself", func() bool {
		w.put(allConfigs+"other", flood)
		_, err := within(hurried, soon)
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("in the flood a call ended with %v", err)
		}
		return w.etcd.Calls().Count(etcdtest.Watch, allConfigs+"x") == 2
	})
	w.put(allConfigs+"x/b", hasty)
	goesBy(t, conns["x/b"], true)
	w.delete(allConfigs + "x/a")
	kit.Eventually(t, soon, "the config is gone", func() bool {
		_, err := within(hurried, time.Second)
		return status.Code(err) == codes.Unavailable // there is no endpoint
	})
	if n := w.logs.Count("followed by itself"); n != 1 || w.logs.Count("level=WARN") != 1 {
		t.Errorf("the log: %s", w.logs.Lines())
	}
}

// TestK21_RolesOfSingleLiveConfigs has a user who may read the live config of one service, of two that are called.
func TestK21_RolesOfSingleLiveConfigs(t *testing.T) {
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("secret", etcdtest.User{Name: "caller", Password: "p", Permissions: []etcdtest.Permission{
		etcdtest.ReadOnly("x/"), etcdtest.ReadOnly(allConfigs + "x/a"),
	}})})
	w.registry = w.newRegistry(w.etcd.Client(t, etcdtest.As("caller", "p")))
	w.put(allConfigs+"x/b", hasty)
	conns := w.services("x/b", "x/a")
	w.put(allConfigs+"x/a", hasty)
	goesBy(t, conns["x/a"], true)
	goesBy(t, conns["x/b"], false)
	if lines := w.logs.Count("followed by itself"); lines > 0 {
		t.Errorf("the log: %s", w.logs.Lines())
	}
}
