package discovery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func ids(endpoints []runtime.Endpoint) string {
	var all []string
	for _, e := range endpoints {
		all = append(all, e.Instance)
	}
	return strings.Join(all, " ")
}

// await returns once the set has exactly the instances wanted.
func await(t *testing.T, sets <-chan []runtime.Endpoint, want string) {
	t.Helper()
	deadline := time.After(2 * soon)
	last := "nothing"
	for last != want {
		select {
		case set := <-sets:
			last = ids(set)
		case <-deadline:
			t.Fatalf("the set is %.200s, want %s", last, want)
		}
	}
}

// Endpoints that are known stay while a watch adds others, and those come in with the next list.
func TestS4_KnownEndpointsStay(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithLimits(runtime.Limits{Entries: 5}), runtime.WithEmptyGrace(0))
	for _, name := range []string{"m", "n"} {
		w.put(key+"/"+name, name+":9000")
	}
	sets := w.watch(key)
	await(t, sets, "m n")
	var flood []clientv3.Op
	for i := range 500 {
		flood = append(flood, clientv3.OpPut(fmt.Sprintf("%s/a%06d", key, i), fmt.Sprintf("10.6.%d.%d:9000", i/250, i%250)))
	}
	w.commit(flood)
	w.put(key+"/b", "b:9000") // finds no room
	w.put(key+"/n", "n:9001")
	w.delete(key + "/m")
	kit.Eventually(t, soon, "it is logged that entries are left out", func() bool { return w.logs.Count("the rest is left out") > 0 })
	w.delete(key+"/a", clientv3.WithPrefix())
	w.etcd.Cut()
	w.etcd.Restore()
	await(t, sets, "b n")
}

// Values that are larger than etcd takes by default are stepped over: those of a list, and those that etcd puts into one
// answer of a watch after a pause. An answer that is larger than the client receives has the key listed instead.
func TestS4_HugeValues(t *testing.T) {
	w := newWorld(t, nil)
	w.registry = w.newRegistry(w.etcd.Client(t, func(c *clientv3.Config) { c.MaxCallRecvMsgSize = 8 << 20 }))
	huge := strings.Repeat("x", 1_400_000)
	for i := range 8 {
		w.put(fmt.Sprintf("%s/h%d", key, i), huge)
	}
	w.put(key+"/a", "a:9000")
	w.put(key+"/z", "z:9000")
	sets := w.watch(key)
	await(t, sets, "a z")
	w.etcd.Cut()
	for range 12 {
		w.put(key+"/h", huge)
	}
	w.put(key+"/n", "n:9000")
	w.etcd.Restore()
	await(t, sets, "a n z")
	kit.Eventually(t, 4*soon, "the answer is refused", func() bool { return w.logs.Count("larger than max") > 0 })
}
