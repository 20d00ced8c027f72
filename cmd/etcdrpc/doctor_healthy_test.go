package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
)

// healthy are fleets with which nothing is wrong. Their servers speak TLS.
var healthy = []struct {
	name  string
	notes int // number of kinds of notes
	plant func(f *planted)
}{
	{"JSON with TLS and leases", 1, func(f *planted) {
		for n, methods := range []string{"acme.User/Get,List", "acme.User/Get,List;acme.Admin/Ban"} {
			addr := fmt.Sprintf("10.2.1.%d:9000", n+1)
			f.says("acme/user", addr, `{"version":"v1","weight":100,"zone":"eu-1a","grpc_started":"1767225600","grpc_methods":"`+methods+`"}`)
		}
		f.instance("acme/user-admin", "10.2.1.3:9000")
		f.instance("acme/order", "user.internal:9000")
		f.instance("acme/mail", "[2001:db8::7]:9000")
		f.instance("acme/closed", "10.2.1.9:9000", "mutual")
		f.says("acme/bare", "10.2.1.10:9000", `{"grpc_methods":"acme.Bare/Do"}`, "bare")
		f.says("acme/brief", "10.2.1.11:9000", `{"grpc_methods":"acme.Brief/Do;acme.Short/Do"}`, "brief")
		f.policy("acme/user", `{"methodConfig":[{"name":[{"service":"acme.User","method":"Get"},{"service":"acme.Admin"},{"service":"grpc.health.v1.Health"},{}],"timeout":"1s"}]}`)
	}},
	{"the other layouts", 0, func(f *planted) {
		f.lease("user.rpc/@", "10.2.2.1:9000")
		f.lease("user.rpc/@", "10.2.2.2:9000")
		f.lease("/microservices/user/1", `{"id":"1","name":"user","version":"v1","metadata":{"k":"v"},"endpoints":["grpc://10.2.2.3:9000?isSecure=false","http://10.2.2.3:8000"]}`)
		f.lease("kitex/registry-etcd/pay/10.2.2.4:8888", `{"network":"tcp","address":"10.2.2.4:8888","weight":10,"tags":null}`)
		f.lease("hello@", "10.2.2.5:9000")
		f.lease("pay/v1/b", `{"service":"pay","endpoint":"10.2.2.11:9000","ver":"v1","w":100}`)
		f.lease("pay/v1/a", `{"service":"pay","endpoint":"10.2.2.6:9000","ver":"v1","w":100}`)
		f.lease("/service/default/default/mail/latest/10.2.2.7:9000", `{"protocol":"grpc"}`)
		f.lease("/micro/registry/cart/cart-1", `{"name":"cart","version":"latest","metadata":null,"endpoints":[{"name":"Cart.Add"}],"nodes":[{"id":"cart-1","address":"10.2.2.8:9000","metadata":{"protocol":"grpc"}}]}`)
		f.lease("/services/shop/10.2.2.9:20000", `{"ID":"10.2.2.9:20000","ServiceName":"shop","Host":"10.2.2.9","Port":20000,"Enable":true,"Healthy":true,"Weight":100,"Metadata":{}}`)
		f.lease("nacos/stock/10.2.2.10#9000", `{"instanceId":"10.2.2.10#9000","ip":"10.2.2.10","port":9000,"weight":1.0,"healthy":true,"enabled":true,"ephemeral":true,"clusterName":"DEFAULT","metadata":{}}`)
	}},
	{"split, drain, lanes and zones", 0, func(f *planted) {
		f.says("acme/user", "10.2.3.1:9000", `{"version":"v1","zone":"eu-1a","weight":100}`)
		f.says("acme/user", "10.2.3.2:9000", `{"version":"v1","zone":"eu-1b"}`)
		f.says("acme/user", "10.2.3.3:9000", `{"version":"v2","zone":"eu-1a"}`)
		f.says("acme/user", "10.2.3.4:9000", `{"version":"v1","zone":"eu-1a","lane":"pr-7"}`)
		f.etcdPolicy("acme/user", `"split":[{"match":{"version":"v1"},"weight":9},{"match":{"version":"v2"},"weight":1},{"match":{"version":"v3"},"weight":0}],`+
			`"drain":["10.2.3.2:9000"],"preferZone":true,"route":[{"label":"lane"}],"childPolicy":[{"etcd_weighted":{}}]`)
		f.instance("acme/order", "10.2.3.5:9000")
		f.policy("acme/order", `{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"etcd":{"drain":[]}}]}},{"least_request_experimental":{}}]}`)
	}},
	{"an etcd that is shared with others", 0, plantShared},
	{"namespaces, with an election in each", 0, func(f *planted) {
		for n, namespace := range []string{"prod/", "staging/"} {
			addr := fmt.Sprintf("10.2.6.%d:9000", n+1)
			f.instance(namespace+"acme/user", addr)
			f.instance(namespace+"acme/user", fmt.Sprintf("10.2.6.%d:9000", n+3))
			f.lease(namespace+"_grpc_leader/acme/user//"+addr, addr)
			f.put(namespace+inventory.ConfigPrefix+"acme/user", `{"loadBalancingConfig":[{"etcd":{"drain":["`+addr+`"]}}]}`)
		}
	}},
	{"servers that write two layouts", 0, func(f *planted) {
		for n := range 2 {
			addr := fmt.Sprintf("10.2.7.%d:9000", n+1)
			f.instance("acme/user", addr)
			f.lease("acme/user@", addr)
		}
	}},
	{"layouts that the old readers bear, and go-micro's name for a package", 1, func(f *planted) {
		f.lease("kitex/registry-etcd/user/10.2.14.1:9000", `{"network":"tcp","address":"10.2.14.1:9000","weight":10,"tags":null}`)
		f.lease("kitex/registry-etcd/user/@", "10.2.14.1:9000")
		f.lease("/micro/registry/cart/one", `{"name":"cart","version":"","metadata":null,"endpoints":[],"nodes":[{"id":"one","address":"10.2.14.2:9000","metadata":{"grpc_methods":"cart.Cart/Add"}}]}`)
	}},
	{"versions of GoFrame's, each with a key", 0, func(f *planted) {
		f.lease("/service/default/default/user/v1/10.2.15.1:9000", `{"protocol":"grpc"}`)
		f.lease("/service/default/default/user/v2/10.2.15.2:9000", `{"protocol":"grpc"}`)
	}},
	{"a server that withdraws its entry", 0, func(f *planted) {
		f.says("acme/user", "10.2.8.1:9000", `{"grpc_leaving":"true"}`, "")
		f.says("acme/user", "10.2.8.2:9000", `{"grpc_leaving":"true"}`, "notServing")
		f.lease("acme/user/a", `{"Addr":"10.2.8.3:9000","Metadata":{"grpc_leaving":"true"}}`)
		f.lease("acme/user/b", `{"Addr":"10.2.8.3:9000"}`)
	}},
	{"a server that is drained before it stops", 0, func(f *planted) {
		f.instance("acme/user", "10.2.9.1:9000", "notServing")
		f.instance("acme/user", "10.2.9.2:9000")
		f.etcdPolicy("acme/user", `"drain":["10.2.9.1:9000"]`)
	}},
	{"a canary that is drained", 0, func(f *planted) {
		f.says("acme/user", "10.2.11.1:9000", `{"version":"v1"}`)
		f.says("acme/user", "10.2.11.2:9000", `{"version":"v2"}`)
		f.etcdPolicy("acme/user", `"split":[{"match":{"version":"v1"},"weight":99},{"match":{"version":"v2"},"weight":1}],"drain":["10.2.11.2:9000"]`)
	}},
	{"lanes of the proto file beside timeouts", 0, func(f *planted) {
		f.instance("acme/user", "10.2.12.1:9000")
		f.says("acme/user", "10.2.12.2:9000", `{"lane":"pr-7","grpc_methods":"acme.User/Get"}`)
		f.policy("acme/user", `{"methodConfig":[{"name":[{}],"timeout":"1s","retryPolicy":{"maxAttempts":3,"initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE","RESOURCE_EXHAUSTED"]}}],"healthCheckConfig":{"serviceName":""}}`)
	}},
	{"weights, a canary of 1 % among them", 0, func(f *planted) {
		f.says("acme/user", "10.2.13.1:9000", `{"weight":99}`)
		f.says("acme/user", "10.2.13.2:9000", `{"weight":1}`)
		f.etcdPolicy("acme/user", `"childPolicy":[{"etcd_weighted":{}}]`)
	}},
	{"an authority that the proto sets", 0, func(f *planted) {
		f.instance("acme/billing", "10.2.5.1:9000", "misnamed")
	}},
	{"one host alone", 0, func(f *planted) {
		f.instance("acme/user", "127.0.0.1:9000")
		f.instance("acme/order", "[::1]:9000")
	}},
}

// plantShared creates keys of other programs next to a service.
func plantShared(f *planted) {
	f.instance("acme/user", "10.2.4.1:9000")
	for key, value := range map[string]string{
		"config/db/url":                           "postgres://db:5432/users",
		"config/db/host":                          "db.internal:5432",
		"config/db/replica":                       "10.2.4.9:5432",
		"config/redis/main":                       `{"Addr":"redis:6379","Password":"","DB":1}`,
		"config/redis/other":                      `{"network":"tcp","address":"redis:6379"}`,
		"config/search/main":                      `{"endpoints":["http://search:9200"],"timeout":"1s"}`,
		"config/app/feature":                      `{"name":"dark","enabled":true}`,
		"config/app/note":                         "hello there",
		"registry/pods/default/web":               "k8s\x00\n\x02v1\x12\x03Pod",
		"registry/services/endpoints/default/web": "k8s\x00\n\x02v1\x12\x09Endpoints\x0a\x0810.0.0.1",
		"traefik/http/services/web/loadbalancer":  `{"servers":[{"url":"http://10.2.4.2:80"}]}`,
		"motd":                                    "10.2.4.9:80",
		"config/grpc-config/server":               `{"methodConfig":[]}`,
		"grpc_config/defaults":                    `{"port":9000}`,
		"apisix/upstreams/1":                      `{"id":"1","name":"web","type":"roundrobin","nodes":[{"host":"10.2.4.7","port":80,"weight":1}]}`,
		"apisix/upstreams/2":                      `{"id":"2","name":"api","type":"roundrobin","nodes":{"10.2.4.8:80":1}}`,
	} {
		f.put(key, value)
	}
	f.lease("registry/masterleases/10.2.4.3", "k8s\x00\n\x02v1\x12\x09Endpoints")
	f.lease("service/batman/leader", "pg0")
	f.lease("service/batman/members/pg0", `{"conn_url":"postgres://10.2.4.4:5432/postgres","api_url":"http://10.2.4.4:8008/patroni","state":"running"}`)
	f.lease("jobs/running/import", "started by worker 3")
	f.lease("sessions/alice/web", `{"since":"2026-01-02T03:04:05Z"}`)
	f.lease("skydns/local/web/x1", `{"host":"10.2.4.5","port":8080,"ttl":60}`)
	f.lease("skydns/local/web/x2", `{"host":"10.2.4.10","port":8080,"ttl":60}`)
	f.lease("tidb/cdc/default/capture/4f3e", `{"id":"4f3e","address":"10.2.4.6:7000","version":"v8.1.0"}`)
	f.lease("topology/tidb/10.2.4.6:7000/ttl", "1767225600000000000")
	f.put("topology/tidb/10.2.4.6:7000/info", `{"version":"8.1.0","status_port":10080}`)
	f.lease("services/leader", "10.2.4.6:7000") // an address on a lease alone
	f.lease("clients/10.2.4.6:7000", `{"connected_at":"2026-01-02T03:04:05Z"}`)
	f.put("limits/10.2.4.6:7000", "17")
	f.put("vault/core/leader/2f1c", `{"redirect_addr":"https://10.2.4.6:8200","cluster_addr":"https://10.2.4.6:8201"}`)
	f.put("traefik/tcp/services/db/loadbalancer/servers/0/address", "10.2.4.6:7000")

	client := f.etcd.Client(f.t)
	session, err := concurrency.NewSession(client, concurrency.WithContext(f.t.Context()))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(session.Orphan)
	if err := concurrency.NewMutex(session, f.namespace+"locks/import").Lock(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	for key, candidate := range map[string]string{"election/leader": "10.2.4.6:7000", "election/cleaner": "10.2.4.6"} {
		if err := concurrency.NewElection(session, f.namespace+key).Campaign(f.t.Context(), candidate); err != nil {
			f.t.Fatal(err)
		}
	}
	f.route("10.2.4.6:7000", "") // whoever stands may be at an address of another network
	f.lease("_grpc_leader/acme/user//10.2.4.1:9000", "10.2.4.1:9000")
}

// TestDoctor_Healthy looks at fleets with which nothing is wrong.
func TestDoctor_Healthy(t *testing.T) {
	t.Parallel()
	etcd, y := etcdtest.Start(t), newYard(t)
	for n, tt := range healthy {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, etcd, y, fmt.Sprintf("fleet%d/", n))
			tt.plant(f)
			found, stderr := f.doctor("--deep", "--service-cacert", y.caFile, "--service-authority", "acme/billing=somebody.else", "--probe-timeout", "1m")
			for _, f := range found.Findings {
				t.Errorf("invented: %+v", f)
			}
			if len(found.Notes) != tt.notes || stderr != "" {
				t.Errorf("%d notes, want %d, and %q: %+v", len(found.Notes), tt.notes, stderr, found.Notes)
			}
			if found.Services == 0 {
				t.Error("no service was found")
			}
		})
	}
}

// H8: gRPC's own health service, as it comes, knows "" alone. Whether clients ask for more, doctor cannot know.
func TestDoctor_NotesAnUnknownHealth(t *testing.T) {
	t.Parallel()
	f := newFleet(t, etcdtest.Start(t), newYard(t), "")
	f.says("acme/user", "10.2.1.1:9000", `{"grpc_methods":"acme.User/Get"}`)
	f.says("acme/user", "10.2.1.2:9000", `{"grpc_methods":"acme.User/Get"}`, "bare")
	found, _ := f.doctor("--deep", "--service-cacert", f.yard.caFile)
	if len(found.Notes) != 1 || found.Notes[0].Kind != doctor.KindHealthUnknown || len(found.Notes[0].Where) != 1 ||
		!strings.Contains(found.Notes[0].Fix, `healthServer.SetServingStatus("acme.User", healthpb.HealthCheckResponse_SERVING)`) {
		t.Errorf("%+v", found)
	}
}

// TestDoctor_Roles makes the roles of docs/security.md, by the commands that it shows, and runs doctor as those that are to see a service.
func TestDoctor_Roles(t *testing.T) {
	t.Parallel()
	etcd, y := etcdtest.Start(t, etcdtest.WithAuth("secret")), newYard(t)
	roles := makeRoles(t, etcd.Admin())
	if len(roles) < 9 {
		t.Fatalf("docs/security.md makes the roles %q", roles)
	}
	for _, namespace := range []string{"", "prod/"} {
		f := newFleet(t, etcd, y, namespace)
		f.instance("acme/greeter", "10.3.1.1:9000")
		f.etcdPolicy("acme/greeter", `"subset":5`)
		f.lease("acme/legacy@", "10.3.1.2:9000")
		f.instance("acme/other", "10.3.1.3:9000")
	}
	for _, role := range roles {
		if !strings.HasSuffix(role, "-caller") && !strings.HasSuffix(role, "-operator") {
			continue // servers need not see what doctor looks at
		}
		namespace, key := "", "acme/greeter"
		if strings.HasPrefix(role, "prod-") {
			namespace = "prod/"
		}
		if strings.Contains(role, "legacy") {
			key = "acme/legacy"
		}
		found, _ := newFleet(t, etcd, y, namespace).doctor("--no-dial", key, "--user", role+":secret")
		if len(found.Findings) != 0 || found.Services != 1 {
			t.Errorf("%s: found %+v in %d services", role, found.Findings, found.Services)
		}
	}
}

// makeRoles runs the commands of docs/security.md that make roles, and gives each role a user of its own.
func makeRoles(t *testing.T, client *clientv3.Client) (roles []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "etcdctl role add "):
			role := words[3]
			_, errRole := client.RoleAdd(t.Context(), role)
			_, errUser := client.UserAdd(t.Context(), role, "secret")
			_, errGrant := client.UserGrantRole(t.Context(), role, role)
			if errRole != nil || errUser != nil || errGrant != nil {
				t.Fatal(errRole, errUser, errGrant)
			}
			roles = append(roles, role)
		case strings.HasPrefix(line, "etcdctl role grant-permission "):
			grantRole(t, client, words[3:])
		}
	}
	return roles
}

// grantRole does what etcdctl role grant-permission does.
func grantRole(t *testing.T, client *clientv3.Client, words []string) {
	t.Helper()
	flags := pflag.NewFlagSet("grant-permission", pflag.ContinueOnError)
	prefix := flags.Bool("prefix", false, "")
	if err := flags.Parse(words); err != nil {
		t.Fatal(err)
	}
	role, right, key, end := flags.Arg(0), clientv3.PermissionType(clientv3.PermRead), flags.Arg(2), flags.Arg(3)
	if *prefix {
		end = clientv3.GetPrefixRangeEnd(key)
	}
	if flags.Arg(1) == "readwrite" {
		right = clientv3.PermissionType(clientv3.PermReadWrite)
	}
	if _, err := client.RoleGrantPermission(t.Context(), role, key, end, right); err != nil {
		t.Fatalf("%s: %v", role, err)
	}
}

// TestDoctor_FaultsByThemselves plants what excludes the rest.
func TestDoctor_FaultsByThemselves(t *testing.T) {
	t.Parallel()
	etcd, y := etcdtest.Start(t), newYard(t)
	mixed := func(servers ...string) plant {
		return func(f *planted, _ string) {
			for n, server := range servers {
				f.instance("acme/user", fmt.Sprintf("user-%d:9000", n+1), server)
			}
		}
	}
	for n, tt := range []struct {
		args string
		fault
	}{
		{"--no-dial acme/usr", fault{"no service at the key", doctor.KindEmpty, "nothing is registered", "acme/usr", func(f *planted, _ string) { f.instances("acme/user") }}},
		{"--no-dial", fault{"a live policy for a bad key", doctor.KindBadKey, "white space", "_grpc_config/acme/a b", func(f *planted, at string) { f.put(at, noPolicy) }}},
		{"--deep --plaintext --probe-timeout 1m", fault{"TLS where the others speak plaintext", doctor.KindNotServing, "", "acme/user/user-1:9000",
			mixed("healthy", "plain", "plain")}},
		{"--deep --probe-timeout 1m", fault{"a certificate of an authority that is not known", doctor.KindNotServing, "authority", "acme/user/user-1:9000", mixed("healthy")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, etcd, y, fmt.Sprintf("fleet%d/", n))
			tt.plant(f, tt.where)
			f.wantFaults(strings.Fields(tt.args), tt.fault)
		})
	}
}
