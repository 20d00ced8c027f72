package code

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/affinity"
)

var instances = []string{"a", "b", "c"}

func serveThree(t *testing.T, registry *runtime.Registry) {
	t.Helper()
	for _, name := range instances {
		serveAll(t, registry, name)
	}
}

// TestSameServer says that calls with equal values reach the same server, whichever the
// method and the client, and that the values do not travel beside the requests.
func TestSameServer(t *testing.T) {
	serveThree(t, newRegistry(t))
	var one, other seen
	first := noted(t, newRegistry(t), &one, affinity.NewPlacesClientFromEtcd)
	second := noted(t, newRegistry(t), &other, affinity.NewPlacesClientFromEtcd)
	ctx := within(t, 2*soon)

	used := map[string]int{}
	for i := range 60 {
		name := fmt.Sprintf("secret-name-%d", i)
		request := &affinity.Request{Who: &affinity.Request_Name{Name: name}, GetString: name}
		must(t, unary(first.Oneof, request)(ctx))
		must(t, unary(second.Renamed, request)(ctx))
		if one.instance() != other.instance() {
			t.Errorf("%s reached %s and %s", name, one.instance(), other.instance())
		}
		used[one.instance()]++
		checkHashed(t, one, name)
	}
	if len(used) != len(instances) {
		t.Errorf("60 values were shared out so: %v; want some for each of %v", used, instances)
	}
}

var hash = regexp.MustCompile(`^etcd-affinity=[0-9a-f]{16}$`)

// checkHashed says that the server was sent a hash, and nothing with the value in it.
func checkHashed(t *testing.T, call seen, value string) {
	t.Helper()
	hashes := 0
	for _, sent := range call.header[sentHeader] {
		if strings.Contains(sent, value) {
			t.Errorf("the server was sent %s", sent)
		}
		if hash.MatchString(sent) {
			hashes++
		}
	}
	if hashes != 1 {
		t.Errorf("the server was sent %q; want one hash of the affinity", call.header[sentHeader])
	}
}

// TestStreamSameServer says that streams go where other calls do.
func TestStreamSameServer(t *testing.T) {
	registry := newRegistry(t)
	serveThree(t, registry)
	var last seen
	c := noted(t, registry, &last, affinity.NewPlacesClientFromEtcd)
	ctx := within(t, 2*soon)
	for id := range int64(20) {
		request := &affinity.Request{User: &affinity.User{Id: id + 1, Parent: &affinity.User{Id: id + 1}}}
		must(t, unary(c.Nested, request)(ctx))
		want := last.instance()
		must(t, stream(c.List, request)(ctx))
		if last.instance() != want {
			t.Errorf("id %d reached %s, and with a stream %s", id+1, want, last.instance())
		}
	}
}
