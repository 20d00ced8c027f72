// Package dubbo tests that our clients read what dubbo-go's application-level discovery registers. Our servers do not
// write it.
package dubbo

import (
	"net"
	"strconv"
	"testing"

	"dubbo.apache.org/dubbo-go/v3/common"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
	"dubbo.apache.org/dubbo-go/v3/common/extension"
	"dubbo.apache.org/dubbo-go/v3/registry"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

var user = &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/services/user"}

// theirs returns a dubbo-go service discovery, which has one etcd client.
func theirs(t *testing.T, w *world.World) registry.ServiceDiscovery {
	t.Helper()
	url, err := common.NewURL("etcdv3://"+w.EtcdAddr(), common.WithParamsValue(constant.RegistryKey, constant.EtcdV3Key))
	if err != nil {
		t.Fatal(err)
	}
	discovery, err := extension.GetServiceDiscovery(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := discovery.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return discovery
}

func instance(t *testing.T, service, addr string, metadata map[string]string) *registry.DefaultServiceInstance {
	t.Helper()
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return &registry.DefaultServiceInstance{
		ID: addr, ServiceName: service, Host: host, Port: port, Enable: true, Healthy: true, Metadata: metadata,
	}
}

func TestTheirWriterOurClient(t *testing.T) {
	w := world.New(t)
	discovery := theirs(t, w)
	register := func(service, addr string, metadata map[string]string) *registry.DefaultServiceInstance {
		t.Helper()
		i := instance(t, service, addr, metadata)
		if err := discovery.Register(i); err != nil {
			t.Fatal(err)
		}
		return i
	}
	a, b, c := w.Serve("a"), w.Serve("b"), w.Serve("c")
	revision := map[string]string{"dubbo.metadata.revision": "1", "dubbo.endpoints": `[{"port":20000,"protocol":"tri"}]`, "weight": "7"}
	inA, inB := register("user", a, revision), register("user", b, map[string]string{"version": "v2", "zone": "eu-1a"})
	register("user", c, nil)
	register("user-admin", w.Serve("neighbour"), nil)
	disabled := instance(t, "user", w.Serve("disabled"), nil)
	disabled.Enable = false
	if err := discovery.Register(disabled); err != nil {
		t.Fatal(err)
	}

	conn, watch := w.Conn(user), w.Watch(user.Key)
	w.Reaches(conn, "a", "b", "c")
	delete(revision, "weight")
	readA := runtime.Endpoint{Instance: a, Addr: a, Weight: 7, Metadata: revision}
	readB := runtime.Endpoint{Instance: b, Addr: b, Version: "v2", Zone: "eu-1a"}
	readC := runtime.Endpoint{Instance: c, Addr: c}
	world.Becomes(w, "we read", watch, readA, readB, readC)

	inA.Metadata = map[string]string{"weight": "9"}
	if err := discovery.Update(inA); err != nil {
		t.Fatal(err)
	}
	readA.Weight, readA.Metadata = 9, nil
	world.Becomes(w, "we read", watch, readA, readB, readC)
	if err := discovery.Unregister(inB); err != nil {
		t.Fatal(err)
	}
	world.Becomes(w, "we read", watch, readA, readC)
	w.Reaches(conn, "a", "c")
}
