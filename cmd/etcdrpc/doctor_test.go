package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// healthy are sets of services without faults. Their servers use TLS.
var healthy = []struct {
	name  string
	note  string // a part of the notes; "" if there is none
	plant func(f *planted)
}{
	{"JSON with TLS and leases", `SetServingStatus("acme.Admin", healthpb.HealthCheckResponse_SERVING)`, func(f *planted) {
		for n, methods := range []string{"acme.User/Get,List",
			"acme.User/Get,List;acme.Admin/Ban"} {
			addr := fmt.Sprintf("10.2.1.%d:9000", n+1)
			f.says("acme/user", addr,
				`{"version":"v1","weight":100,"zone":"eu-1a","grpc_started":"1767225600","grpc_methods":"`+
					methods+`"}`)
		}

		f.instance("acme/user-admin", "10.2.1.3:9000")
		f.instance("acme/order", "user.internal:9000")
		f.instance("acme/mail", "[2001:db8::7]:9000")
		f.says("acme/bare", "10.2.1.10:9000", `{"grpc_methods":"acme.Bare/Do"}`, "bare")
		f.says("acme/brief", "10.2.1.11:9000", `{"grpc_methods":"acme.Brief/Do;acme.Short/Do"}`,
			"brief")
		f.policy("acme/user",
			`{"methodConfig":[{"name":[{"service":"acme.User","method":"Get"},{"service":"acme.Admin"},{"service":"grpc.health.v1.Health"},{}],"timeout":"1s"}]}`)
	}},
	{"the other layouts", "", func(f *planted) {
		f.lease("user.rpc/@", "10.2.2.1:9000")
		f.lease("user.rpc/@", "10.2.2.2:9000")
		f.lease("/microservices/user/1",
			`{"id":"1","name":"user","version":"v1","metadata":{"k":"v"},"endpoints":["grpc://10.2.2.3:9000?isSecure=false","http://10.2.2.3:8000"]}`)
		f.lease("kitex/registry-etcd/pay/10.2.2.4:8888",
			`{"network":"tcp","address":"10.2.2.4:8888","weight":10,"tags":null}`)
		f.lease("hello@", "10.2.2.5:9000")
		f.lease("pay/v1/b", `{"service":"pay","endpoint":"10.2.2.11:9000","ver":"v1","w":100}`)
		f.lease("pay/v1/a", `{"service":"pay","endpoint":"10.2.2.6:9000","ver":"v1","w":100}`)
		f.lease("/service/default/default/mail/latest/10.2.2.7:9000", `{"protocol":"grpc"}`)
		f.lease("/micro/registry/cart/cart-1",
			`{"name":"cart","version":"latest","metadata":null,"endpoints":[{"name":"Cart.Add"}],"nodes":[{"id":"cart-1","address":"10.2.2.8:9000","metadata":{"protocol":"grpc"}}]}`)
		f.lease("/services/shop/10.2.2.9:20000",
			`{"ID":"10.2.2.9:20000","ServiceName":"shop","Host":"10.2.2.9","Port":20000,"Enable":true,"Healthy":true,"Weight":100,"Metadata":{}}`)
		f.lease("/services/shop/10.2.2.12:20000",
			`{"ServiceName":"shop","Host":"10.2.2.12","Port":20000,"Enable":false}`)
		f.lease("nacos/stock/10.2.2.10#9000",
			`{"instanceId":"10.2.2.10#9000","ip":"10.2.2.10","port":9000,"weight":1.0,"healthy":true,"enabled":true,"ephemeral":true,"clusterName":"DEFAULT","metadata":{}}`)
	}},
	{"split, drain, lanes and zones", "", func(f *planted) {
		f.says("acme/user", "10.2.3.1:9000", `{"version":"v1","zone":"eu-1a","weight":100}`)
		f.says("acme/user", "10.2.3.2:9000", `{"version":"v1","zone":"eu-1b"}`)
		f.says("acme/user", "10.2.3.3:9000", `{"version":"v2","zone":"eu-1a"}`)
		f.says("acme/user", "10.2.3.4:9000", `{"version":"v1","zone":"eu-1a","lane":"pr-7"}`)

		f.etcdPolicy(
			"acme/user",
			`"split":[{"match":{"version":"v1"},"weight":9},{"match":{"version":"v2"},"weight":1},{"match":{"version":"v3"},"weight":0}],`+
				`"drain":["10.2.3.2:9000"],"preferZone":true,"route":[{"label":"lane"}],"childPolicy":[{"etcd_weighted":{}}]`,
		)

		f.instance("acme/order", "10.2.3.5:9000")
		f.policy("acme/order",
			`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"drain":[]}}]}},{"least_request_experimental":{}}]}`)
	}},
	{"an etcd that is shared with others", "", plantShared},
	{"namespaces, with an election in each", "", func(f *planted) {
		for n, namespace := range []string{"prod/", "staging/"} {
			addr := fmt.Sprintf("10.2.6.%d:9000", n+1)
			f.instance(namespace+"acme/user", addr)
			f.instance(namespace+"acme/user", fmt.Sprintf("10.2.6.%d:9000", n+3))
			f.lease(namespace+"_grpc_leader/acme/user//"+addr, addr)
			f.put(namespace+inventory.ConfigPrefix+"acme/user",
				`{"loadBalancingConfig":[{"etcd":{"drain":["`+addr+`"]}}]}`)
		}
	}},
	{"layouts that the old readers bear, and go-micro's name for a package", `"cart.Cart"`, func(f *planted) {
		f.lease("kitex/registry-etcd/user/10.2.14.1:9000",
			`{"network":"tcp","address":"10.2.14.1:9000","weight":10,"tags":null}`)
		f.lease("kitex/registry-etcd/user/@", "10.2.14.1:9000")
		f.lease("/micro/registry/cart/one",
			`{"name":"cart","version":"","metadata":null,"endpoints":[],"nodes":[{"id":"one","address":"10.2.14.2:9000","metadata":{"grpc_methods":"cart.Cart/Add"}}]}`)
	}},
	{"versions of GoFrame's, each with a key", "", func(f *planted) {
		f.lease("/service/default/default/user/v1/10.2.15.1:9000", `{"protocol":"grpc"}`)
		f.lease("/service/default/default/user/v2/10.2.15.2:9000", `{"protocol":"grpc"}`)
	}},
	{"a server that withdraws its entry", "", func(f *planted) {
		f.says("acme/user", "10.2.8.1:9000", `{"grpc_leaving":"true"}`, "")
		f.says("acme/user", "10.2.8.2:9000", `{"grpc_leaving":"true"}`, "notServing")
		f.lease("acme/user/a", `{"Addr":"10.2.8.3:9000","Metadata":{"grpc_leaving":"true"}}`)
		f.lease("acme/user/b", `{"Addr":"10.2.8.3:9000"}`)
	}},
	{"servers that stop while they are asked", "", func(f *planted) {
		f.instance("acme/user", "10.2.17.1:9000", "")
		f.stops["10.2.17.1:9000"] = func() {
			deleteKey(f.t, f.etcd, f.namespace+"acme/user/10.2.17.1:9000")
		}
		lease := f.putOn("acme/user/10.2.17.2:9000", `{"Addr":"10.2.17.2:9000"}`, 3600)
		f.route("10.2.17.2:9000", "notServing")
		f.lease("_grpc_leader/acme/user//one", "10.2.17.2:9000")

		f.stops["10.2.17.2:9000"] = func() {
			putKey(f.t, f.etcd, f.namespace+"acme/user/10.2.17.2:9000",
				`{"Addr":"10.2.17.2:9000","Metadata":`+leaving+`}`, lease)
		}
	}},
	{"a server that is drained, registers again after an outage of etcd, and stops", "", func(f *planted) {
		f.says("acme/user", "10.2.9.1:9000", `{"grpc_started":"1767225600"}`, "notServing")
		f.instance("acme/user", "10.2.9.2:9000")
		f.etcdPolicy("acme/user", `"drain":["10.2.9.1:9000"]`)
		deleteKey(f.t, f.etcd, f.namespace+"acme/user/10.2.9.1:9000")
		f.says("acme/user", "10.2.9.1:9000", `{"grpc_started":"1767225600"}`)
		suffix := f.putOn("hello@", "10.2.9.3:9000", 3600) // LEASE_SUFFIX has no start time
		f.etcdPolicy("hello", `"drain":["10.2.9.3:9000"]`)
		deleteKey(f.t, f.etcd, fmt.Sprint(f.namespace, "hello", suffix))
		f.lease("hello@", "10.2.9.3:9000")
		f.lease("hello@", "10.2.9.4:9000")
	}},
	{"a canary that is drained", "", func(f *planted) {
		f.says("acme/user", "10.2.11.1:9000", `{"version":"v1"}`)
		f.says("acme/user", "10.2.11.2:9000", `{"version":"v2"}`)
		f.etcdPolicy("acme/user",
			`"split":[{"match":{"version":"v1"},"weight":99},{"match":{"version":"v2"},"weight":1}],"drain":["10.2.11.2:9000"]`)
	}},
	{"lanes of the proto file beside timeouts", "", func(f *planted) {
		f.instance("acme/user", "10.2.12.1:9000")
		f.says("acme/user", "10.2.12.2:9000", `{"lane":"pr-7","grpc_methods":"acme.User/Get"}`)
		f.policy("acme/user",
			`{"methodConfig":[{"name":[{}],"timeout":"1s","retryPolicy":{"maxAttempts":3,"initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE","RESOURCE_EXHAUSTED"]}}],"healthCheckConfig":{"serviceName":""}}`)
	}},
	{"weights, a canary of 1 % among them", "", func(f *planted) {
		f.says("acme/user", "10.2.13.1:9000", `{"weight":99}`)
		f.says("acme/user", "10.2.13.2:9000", `{"weight":1}`)
		f.etcdPolicy("acme/user", `"childPolicy":[{"etcd_weighted":{}}]`)
	}},
	{"a service whose servers all speak plaintext", "2 of 2 instances speak plaintext", func(f *planted) {
		f.instance("acme/juniper", "10.2.16.1:9000", "plain")
		f.instance("acme/juniper", "10.2.16.2:9000", "plain")
		f.instance("acme/user", "10.2.16.3:9000")
	}},
	{"a service whose server wants a client certificate", "1 of 1 instances speak mutual TLS",
		func(f *planted) { f.instance("acme/closed", "10.2.1.9:9000", "mutual") }},
	{"an authority that the proto sets", "", func(f *planted) {
		f.instance("acme/billing", "10.2.5.1:9000", "misnamed")
	}},
}

// others are keys of other programs. A key with the prefix "lease " is put on a
// lease.
var others = map[string]string{
	"motd":                                        "10.2.4.9:80",
	"config/app/note":                             "hello there",
	"config/db/host":                              "db.internal:5432",
	"config/redis/main":                           `{"Addr":"redis:6379","Password":"","DB":1}`,
	"config/search/main":                          `{"endpoints":["http://search:9200"],"timeout":"1s"}`,
	"config/grpc-config/server":                   `{"methodConfig":[]}`,
	"registry/pods/default/web":                   "k8s\x00\n\x02v1\x12\x03Pod",
	"apisix/upstreams/1":                          `{"id":"1","name":"web","type":"roundrobin","nodes":[{"host":"10.2.4.7","port":80,"weight":1}]}`,
	"vault/core/leader/2f1c":                      `{"redirect_addr":"https://10.2.4.6:8200","cluster_addr":"https://10.2.4.6:8201"}`,
	"lease registry/masterleases/10.2.4.3":        "k8s\x00\n\x02v1\x12\x09Endpoints",
	"lease service/batman/leader":                 "pg0",
	"lease service/batman/members/pg0":            `{"conn_url":"postgres://10.2.4.4:5432/postgres","api_url":"http://10.2.4.4:8008/patroni","state":"running"}`,
	"lease skydns/local/web/x1":                   `{"host":"10.2.4.5","port":8080,"ttl":60}`,
	"lease skydns/local/web/x2":                   `{"host":"10.2.4.10","port":8080,"ttl":60}`,
	"lease tidb/cdc/default/capture/4f3e":         `{"id":"4f3e","address":"10.2.4.6:7000","version":"v8.1.0"}`,
	"lease topology/tidb/10.2.4.6:7000/ttl":       "1767225600000000000",
	"lease services/leader":                       "10.2.4.6:7000",
	"lease clients/10.2.4.6:7000":                 `{"connected_at":"2026-01-02T03:04:05Z"}`,
	"lease _grpc_leader/acme/user//10.2.4.1:9000": "10.2.4.1:9000",
}

// plantShared creates keys of other programs, a lock and an election next to a
// service.
func plantShared(f *planted) {
	f.instance("acme/user", "10.2.4.1:9000")

	for key, value := range others {
		if name, leased := strings.CutPrefix(key, "lease "); leased {
			f.lease(name, value)
		} else {
			f.put(key, value)
		}
	}

	session, err := concurrency.NewSession(f.etcd.Client(f.t),
		concurrency.WithContext(f.t.Context()))
	must(f.t, err)
	f.t.Cleanup(session.Orphan)
	must(f.t, concurrency.NewMutex(session, f.namespace+"locks/import").Lock(f.t.Context()))
	must(f.t, concurrency.NewElection(session, f.namespace+"election/leader").Campaign(
		f.t.Context(), "10.2.4.6:7000"))
	f.route("10.2.4.6:7000", "") // a candidate may have an address on another network
}

// TestDoctor_Healthy checks that doctor finds no fault in healthy services.
func TestDoctor_Healthy(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	y := newYard(t)
	for n, tt := range healthy {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, etcd, y, fmt.Sprintf("fleet%d/", n))
			tt.plant(f)

			found, stderr := f.doctor("--deep", "--service-cacert", y.caFile, "--service-authority", "acme/billing=somebody.else", "--probe-timeout", "1m",
				"--exclude", "clients/,config/,election/,services/,tidb/")
			for _, f := range found.Findings {
				t.Errorf("doctor finds %+v, want no fault", f)
			}

			said := (len(found.Notes) == 0) == (tt.note == "") &&
				strings.Contains(fmt.Sprint(found.Notes), tt.note)
			if !said || stderr != "" {
				t.Errorf("notes %+v, want %q; standard error %q, want none", found.Notes, tt.note,
					stderr)
			}

			if found.Services == 0 {
				t.Error("doctor examined no service, want at least one")
			}
		})
	}
}

// TestDoctor_OtherTLS checks that doctor finds the one server that uses TLS
// among servers that do not.
func TestDoctor_OtherTLS(t *testing.T) {
	t.Parallel()

	f := newFleet(t, etcdtest.Start(t), newYard(t), "")
	for n, server := range []string{"healthy", "plain", "plain"} {
		f.instance("acme/user", fmt.Sprintf("user-%d:9000", n+1), server)
	}

	f.wantFaults([]string{"--deep", "--plaintext", "--probe-timeout", "1m"}, fault{"TLS",
		"transport", "1 of 3 instances speak TLS: clients that use plaintext cannot call them",
		"acme/user/user-1:9000", nil})
}

// TestDoctor_OpenFiles checks that findings in etcd are shown if there are too
// few file descriptors to connect to the instances.
func TestDoctor_OpenFiles(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	a := newApp()
	putKey(t, etcd, "acme/user/a", "10.0.0.7:9000")
	a.dial = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.EMFILE }

	out, stderr, code := executed(t, a, at(etcd, "doctor", "--deep")...)
	if code != exitWrong ||
		strings.Count(out, "too many open files") != 1 ||
		!strings.Contains(out, "ulimit -n") ||
		!strings.Contains(out, "warning no-lease at ") {
		t.Errorf("exit code %d, output %s%s, want %d, the limit of open files, and the entry without a lease",
			code, out, stderr, exitWrong)
	}
}

// TestDoctor_Remedies pastes the commands in remedies. Each must be accepted,
// and each that changes something must remove its fault.
func TestDoctor_Remedies(t *testing.T) {
	t.Parallel()

	f := newFleet(t, etcdtest.Start(t), newYard(t), "remedies/")
	for _, tt := range faults {
		if tt.kind != "leaving" { // doctor would wait for a renewal of the lease
			tt.plant(f, tt.where)
		}
	}

	f.worn = nil // the remedy for such leases is to wait
	dir := filepath.Dir(tempFile(t, "FILE",
		[]byte(`{"loadBalancingConfig":[{"etcd":{"route":[{"label":"lane"}]}}]}`)))
	must(t, exec.CommandContext(t.Context(), "go", "build", "-C", "../../examples", "-o", dir,
		"go.etcd.io/etcd/etcdctl/v3").Run())
	paste := otherShell(t, dir)
	before, _ := f.doctor("--no-dial")

	var mended []fault
	for _, tt := range faults {
		at := slices.IndexFunc(before.Findings, tt.matches)
		if at < 0 {
			continue // doctor finds the fault only by connecting
		}

		for _, line := range pasted.FindAllString(before.Findings[at].Fix, -1) {
			// Compare only this key: other keys may expire between the two
			// reads.
			key := before.Findings[at].Where[0]
			was, err := f.etcd.Admin().Get(t.Context(), key)
			must(t, err)
			paste(line)
			now, err := f.etcd.Admin().Get(t.Context(), key)
			must(t, err)

			if fmt.Sprint(now.Kvs) != fmt.Sprint(was.Kvs) {
				mended = append(mended, tt)
				break // the other lines are alternatives
			}
		}
	}

	after, _ := f.doctor("--no-dial")

	kinds := make(map[string]bool)
	for _, tt := range mended {
		kinds[tt.kind] = true

		if at := slices.IndexFunc(after.Findings, tt.matches); at >= 0 {
			t.Errorf("%s: the remedy does not remove the fault: %+v", tt.name, after.Findings[at])
		}
	}

	if len(kinds) < 9 {
		t.Errorf("remedies of the kinds %v were run, want at least 9 kinds", kinds)
	}
}
