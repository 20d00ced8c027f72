package main

import (
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// TestDrain_OthersAreFaster has others change the live config until some attempts to write it are over.
func TestDrain_OthersAreFaster(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	putKey(t, etcd, "acme/user/b", "10.0.0.8:9000")
	drain := startFollower(newApp(), at(etcd, "drain", "acme/user", "a"))
	defer drain.stop()
	for etcd.Calls().Count(etcdtest.Put, "_grpc_config/") < 5 && len(drain.code) == 0 {
		putKey(t, etcd, "_grpc_config/acme/user", `{"loadBalancingConfig":[{"etcd":{}}]}`)
	}
	if code := ends(t, drain.code); code != exitFine || strings.Count(drain.String(), "send no new calls to a") != 1 {
		t.Errorf("it ends with %d and says %s", code, drain.String())
	}
}
