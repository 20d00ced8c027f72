package discovery

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// Whoever may write the live config of a service. Who does so here has the role of its operators.

// live puts a live config as the operator. It goes around the checks of SetServiceConfig, which are the caller's.
func (w *guarded) live(config string) {
	w.t.Helper()
	_, err := w.as("greeter-operator").Put(kit.Bounded(w.t, soon), "_grpc_config/"+guardedKey, config)
	must(w.t, err)
}

func TestConfigWriterRepeatsCalls(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	var calls atomic.Int64
	w.register("a", w.serve(&greeter{do: func(context.Context) error {
		calls.Add(1)
		return status.Error(codes.Internal, "done all the same")
	}}))
	w.live(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["INTERNAL"]}}]}`)
	most := func(opts ...runtime.Option) (most int64) {
		client := w.client(w.registry(w.as("greeter-caller"), opts...))
		for range 20 {
			calls.Store(0)
			_, _ = greet(t, client, soon)
			most = max(most, calls.Load())
		}
		return most
	}
	if n := most(); n != 5 {
		t.Errorf("a call was made %d times, want 5", n)
	}
	// The cure.
	if n := most(runtime.WithLiveLoadBalancingOnly()); n != 1 {
		t.Errorf("a call was made %d times in spite of WithLiveLoadBalancingOnly", n)
	}
}

func TestConfigWriterMakesCallsFail(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	w.register("a", w.serve(&greeter{name: "a long name"}))
	client := w.client(w.registry(w.as("greeter-caller")))
	w.reaches(client, "a long name")
	for _, tt := range []struct {
		method string
		want   codes.Code
	}{
		{`"timeout":"0.000000001s"`, codes.DeadlineExceeded},
		{`"maxResponseMessageBytes":1`, codes.ResourceExhausted},
	} {
		w.live(`{"methodConfig":[{"name":[{}],` + tt.method + `}]}`)
		kit.Eventually(t, soon, tt.method+" is in force", func() bool {
			_, err := greet(t, client, soon)
			return status.Code(err) == tt.want
		})
	}
	w.allowed(deleting(w.as("greeter-operator"), "_grpc_config/"+guardedKey))
	w.reaches(client, "a long name")
}

func TestConfigWriterMakesCallsWait(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	w.register("a", "127.0.0.1:1")
	client := w.client(w.registry(w.as("greeter-caller")))
	kit.Eventually(t, soon, "calls fail at once", func() bool {
		_, err := greet(t, client, soon)
		return status.Code(err) == codes.Unavailable
	})
	w.live(`{"methodConfig":[{"name":[{}],"waitForReady":true}]}`)
	kit.Eventually(t, soon, "calls wait for as long as they may", func() bool {
		_, err := greet(t, client, 100*time.Millisecond)
		return status.Code(err) == codes.DeadlineExceeded
	})
}

func TestConfigWriterSteersCalls(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	w.register("a", w.serve(&greeter{name: "a"}))
	w.register("b", w.serve(&greeter{name: "b"}))
	client := w.client(w.registry(w.as("greeter-caller")))
	w.live(`{"loadBalancingConfig":[{"etcd":{"drain":["a"]}}]}`)
	w.reaches(client, "b")
	w.live(`{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"instance":"a"},"weight":1},{"match":{"instance":"b"},"weight":0}]}}]}`)
	w.reaches(client, "a")
}

// A live config names no server, no authority and no credentials: calls reach the service's servers over TLS, or fail.
func TestConfigWriterCannotNameServers(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	ca := newAuthority(t)
	addr, dialed := w.bait("127.0.0.1")
	w.register("a", w.serve(&greeter{name: "a"}, grpc.Creds(credentials.NewServerTLSFromCert(ca.sign(t, "acme.greeter")))))
	registry := w.registry(w.as("greeter-caller"))
	client := w.client(registry, grpc.WithTransportCredentials(ca.trust()))
	for _, config := range []string{
		fmt.Sprintf(`{"loadBalancingConfig":[{"etcd":{"target":%q}}]}`, addr),
		fmt.Sprintf(`{"loadBalancingConfig":[{"grpclb":{"serviceName":%q}}]}`, addr),
		fmt.Sprintf(`{"loadBalancingConfig":[{"rls_experimental":{"routeLookupConfig":{"lookupService":%q}}}]}`, addr),
		fmt.Sprintf(`{"loadBalancingConfig":[{"xds_cluster_resolver_experimental":{"xds_server":%q}}]}`, addr),
		`{"authority":"evil"}`, `{"credentials":"insecure"}`, `{"loadBalancingPolicy":"xds_cluster_impl_experimental"}`,
	} {
		w.live(config)
		kit.Eventually(t, soon, "refused: "+config, func() bool {
			for _, s := range registry.Status().Keys {
				if s.ConfigErr != nil {
					return true
				}
			}
			_, _ = greet(t, client, soon)
			return false
		})
		w.allowed(deleting(w.as("greeter-operator"), "_grpc_config/"+guardedKey))
		kit.Eventually(t, soon, "forgotten: "+config, func() bool { return registry.Status().Keys[0].ConfigErr == nil })
		w.reaches(client, "a")
	}
	if n := dialed.Load(); n > 0 {
		t.Errorf("%d connections to what a live config names", n)
	}
}

func TestConfigWriterCannotTouchOtherKeys(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	writer := w.as("greeter-operator")
	w.allowed(touching(writer, "_grpc_config/"+guardedKey)...)
	for _, other := range []string{guardedKey + "/x", "_grpc_config/" + guardedKey + "2", "_grpc_config/" + guardedKey + "/x", "_grpc_config/acme/other", "acme/other/x"} {
		w.denied(touching(writer, other)...)
	}
	w.denied(listing(writer, "_grpc_config/", "_grpc_config0"))
}

// What is wrong with one service's live config is nothing to the others: they are read apart.
func TestConfigWriterCannotHurtOtherServices(t *testing.T) {
	kit.Night(t)
	w := newGuarded(t)
	w.register("a", w.serve(&greeter{name: "a"}))
	w.put("acme/other/b", w.serve(&greeter{name: "b"}))
	registry := w.registry(w.etcd.Client(t)) // a caller of both
	conn, err := registry.NewClient(greeterAt("acme/other"), insecurely)
	must(t, err)
	other := basic.NewGreeterClient(conn)
	w.reaches(w.client(registry), "a")
	w.reaches(other, "b")
	for _, config := range []string{"", "null", "{", strings.Repeat("[", 1<<17), `{"methodConfig":[{"name":[{"service":"basic.Greeter"}],"timeout":"0.000000001s"}]}`} {
		w.live(config)
		for range 20 {
			if got, err := greet(t, other, soon); err != nil || got != "b" {
				t.Fatalf("a call of the other service under %.40q: %q, %v", config, got, err)
			}
		}
	}
}
