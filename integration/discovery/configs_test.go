package discovery

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// drainA is a live config that drains instance a.
const drainA = `{"loadBalancingConfig":[{"etcd":{"drain":["a"]}}]}`

// hasty is a live config that fails every call at once.
const hasty = `{"methodConfig":[{"name":[{}],"timeout":"0.000000001s"}]}`

// A live config overrides the generated config and the caller's config.
// SetServiceConfig refuses a bad config, and a config that lifts a limit (S10).
// If a bad config, such as an empty value, replaces the live config in etcd,
// callers keep the earlier live config (R12, K5, K6).
func TestLiveConfig_Overrides(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	w.registerAll("a", "b")

	// Each config has a different request limit, so that the error of a large
	// request shows which config is in force.
	limit := func(bytes int) string {
		return fmt.Sprintf(`{"methodConfig":[{"name":[{}],"maxRequestMessageBytes":%d}]}`, bytes)
	}
	inForce := func(conn *grpc.ClientConn, want int) {
		t.Helper()
		kit.Eventually(t, fmt.Sprintf("a limit of %d bytes", want), func() bool {
			_, err := basic.NewGreeterClient(conn).SayHello(kit.Context(t),
				&basic.HelloRequest{Name: strings.Repeat("x", 1000)})
			return strings.Contains(fmt.Sprint(err), fmt.Sprintf(" vs. %d)", want))
		})
	}

	desc := basic.Greeter_EtcdServiceDesc
	desc.ServiceConfig = limit(10)
	generated := dial(t, w.registry, &desc)
	callers := dial(t, w.registry, &desc, runtime.WithDefaultServiceConfig(limit(30)))
	disabled := dial(t, w.registry, &desc, grpc.WithDisableServiceConfig())
	inForce(generated, 10)
	inForce(callers, 30)

	kit.Must(t, w.registry.SetServiceConfig(kit.Context(t), key, limit(60)))
	inForce(generated, 60)
	inForce(callers, 60)
	inForce(disabled, 10)
	reached(t, callers, "a", "b") // a live config without a policy leaves round robin in force
	reached(t, w.bare(w.registry, "etcd:///"+key), "a", "b")

	for want, bad := range map[string]string{
		"nope":                    `{"loadBalancingConfig":[{"nope":{}}]}`,
		"maxResponseMessageBytes": `{"methodConfig":[{"name":[{}],"maxResponseMessageBytes":67108864}]}`,
	} {
		err := w.registry.SetServiceConfig(kit.Context(t), key, bad)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("SetServiceConfig(%s): %v, want an error with %q", bad, err, want)
		}
	}

	w.put(configKey, "") // bypasses the check of SetServiceConfig
	kit.Eventually(t, "the bad config is reported", func() bool {
		return w.logs.Count("bad live service config") > 0 && w.status().ConfigErr != nil
	})
	inForce(callers, 60)

	kit.Must(t, w.registry.SetServiceConfig(kit.Context(t), key, ""))
	inForce(generated, 10)
	inForce(callers, 30)
	bare, err := grpc.NewClient("etcd:///"+key, kit.Insecure,
		grpc.WithResolvers(w.registry.Resolver()), grpc.WithDefaultServiceConfig(limit(50)))
	kit.Must(t, err)

	defer bare.Close()

	inForce(bare, 50) // the deleted live config is forgotten (K18)
}

// A drain keeps the policy, the affinity and min_healthy_percent of the
// generated config.
func TestLiveConfig_ChangesWhatItNames(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	w.registerAll("a", "b", "c")
	desc := basic.Greeter_EtcdServiceDesc
	desc.ServiceConfig = `{"loadBalancingConfig":[{"etcd":{"minHealthyPercent":60,"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}}]}`
	conn := dial(t, w.registry, &desc)
	serve := func() (servers []string) {
		for user := range 30 {
			name, err := call(runtime.WithAffinity(kit.Context(t), fmt.Sprint(user)), conn)
			kit.Must(t, err)
			servers = append(servers, name)
		}

		return servers
	}

	before := serve()
	w.put(configKey, drainA)

	kit.Eventually(t, "no user has a, and each has one server", func() bool {
		servers := serve()
		return !slices.Contains(servers, "a") && slices.Equal(servers, serve())
	})

	w.put(configKey, `{"loadBalancingConfig":[{"etcd":{"drain":["a","b"]}}]}`)
	kit.Eventually(t, "a drain that leaves too few is ignored", func() bool {
		return slices.Equal(serve(), before)
	})
}

// With WithLiveLoadBalancingOnly, a live config that sets more than load
// balancing has no effect (S10).
func TestLiveConfig_LoadBalancingOnly(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil, runtime.WithLiveLoadBalancingOnly())
	conn := w.calling("a", "b")
	w.put(configKey,
		strings.TrimSuffix(drainA, "}")+`,"methodConfig":[{"name":[{}],"timeout":"1s"}]}`)
	kit.Eventually(t, "the config is refused", func() bool { return w.status().ConfigErr != nil })
	reached(t, conn, "a", "b")
	w.put(configKey, drainA)
	reached(t, conn, "b")
}
