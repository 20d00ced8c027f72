package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestLinkedPolicies compares what doctor takes for linked with what the runtime registers in this binary.
func TestLinkedPolicies(t *testing.T) {
	for _, name := range []string{serviceconfig.EtcdName, serviceconfig.LeastRequestName, serviceconfig.PeakEwmaName, serviceconfig.PickFirstName,
		serviceconfig.RingHashName, serviceconfig.RoundRobinName, serviceconfig.WeightedName, serviceconfig.WeightedRoundRobinName, serviceconfig.OutlierDetectionName} {
		if got, want := slices.Contains(linkedPolicies, name), balancer.Get(name) != nil; got != want {
			t.Errorf("%s: taken for linked: %v; it is: %v", name, got, want)
		}
	}
}

// TestKindsAreDocumented looks for each kind in the table of the page.
func TestKindsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if !strings.Contains(string(text), fmt.Sprintf("\n| `%s` | ", k.kind)) {
			t.Errorf("%s says nothing of the kind %s", page, k.kind)
		}
	}
}

func TestNearnessOf(t *testing.T) {
	for addr, want := range map[string]nearness{
		"10.0.0.7:9000":           farAddress,
		"user.internal:9000":      farAddress,
		"localhosts:9000":         farAddress,
		"[2001:db8::7]:9000":      farAddress,
		"[::ffff:10.0.0.7]:9000":  farAddress,
		"127.0.0.1:9000":          loopbackAddress,
		"127.9.9.9:9000":          loopbackAddress,
		"[::1]:9000":              loopbackAddress,
		"[::ffff:127.0.0.1]:9000": loopbackAddress,
		"169.254.1.1:9000":        linkAddress,
		"[fe80::1]:9000":          linkAddress,
		"0.0.0.0:9000":            nowhereAddress,
		"[::]:9000":               nowhereAddress,
		"[::ffff:0.0.0.0]:9000":   nowhereAddress,
		"localhost:9000":          nowhereAddress,
		"LocalHost.:9000":         nowhereAddress,
		"user.localhost:9000":     nowhereAddress,
	} {
		if got := nearnessOf(addr); got != want {
			t.Errorf("%s: %d, want %d", addr, got, want)
		}
	}
}

func TestOneHost(t *testing.T) {
	for _, tt := range []struct {
		etcd, instances string
		want            bool
	}{
		{"127.0.0.1:2379", "127.0.0.1:9000", true},
		{"http://localhost:2379", "[::1]:9000", true},
		{"unix:///run/etcd.sock", "127.0.0.1:9000", true},
		{"127.0.0.1:2379", "", true},
		{"https://etcd-1:2379", "127.0.0.1:9000", false},
		{"10.0.0.1:2379", "127.0.0.1:9000", false},
		{"127.0.0.1:2379", "127.0.0.1:9000 10.0.0.7:9000", false},
	} {
		s := &service{key: "a"}
		for addr := range strings.FieldsSeq(tt.instances) {
			s.add(entry{key: "a/" + addr, value: []byte(addr)})
		}
		p := &patient{etcd: etcdHosts([]string{tt.etcd}), services: []*service{s}}
		if got := p.oneHost(); got != tt.want {
			t.Errorf("etcd at %s, instances at %s: %v", tt.etcd, tt.instances, got)
		}
	}
}

func TestWantsAddress(t *testing.T) {
	for value, want := range map[string]bool{
		"10.0.0.7":                      true,
		"10.0.0.7:":                     true,
		":9000":                         true,
		":x":                            false,
		"10.0.0.7:99999":                true,
		"user:0":                        true,
		"10.0.0.7:80,10.0.0.8:80":       true,
		"grpc://10.0.0.7:9000":          true,
		"dns:///user:9000":              true,
		"unix:/run/user.sock":           true,
		`{"Addr":"10.0.0.7`:             true,
		`{"since":"2026"}`:              false,
		"":                              false,
		"hello":                         false,
		"started by worker 3":           false,
		"http://10.0.0.7:8080":          false,
		"postgres://10.0.0.7:5432/user": false,
		"2026-01-02T03:04:05Z":          false,
		"k8s\x00\n\x02v1":               false,
	} {
		if got := wantsAddress(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestAddressOf(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"10.0.0.7:9000", "hello", "10.0.0.7:9000"},
		{"one", "http://10.0.0.7:9000/path?x", "10.0.0.7:9000"},
		{"one", "10.0.0.7:9000,10.0.0.8:9000", "10.0.0.7:9000"},
		{"one", `{"nodes":[{"address":"10.0.0.7:9000"}]}`, "10.0.0.7:9000"},
		{"one", `{"ip":"10.0.0.7","port":9000}`, "10.0.0.7:9000"},
		{"tri%3A%2F%2F10.0.0.7%3A9000%2Facme.User", "", "10.0.0.7:9000"},
		{"one", "10.0.0.7", ""},
		{"one%", "", ""},
	} {
		e := entry{key: "a/" + tt.name, value: []byte(tt.value)}
		i := instance{entry: e, err: errors.New("malformed")}
		i.Instance = tt.name
		if got := addressOf(&i); got != tt.want {
			t.Errorf("%s, %s: %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
}

// TestNeighboursOfMany counts the services that are compared with each: only those whose keys begin with its.
func TestNeighboursOfMany(t *testing.T) {
	const n = 20_000
	p := &patient{full: func(key string) string { return key }}
	var entries []entry
	for i := range n {
		entries = append(entries, entry{key: fmt.Sprintf("acme/s%05d/10.0.0.7:9000", i), value: []byte("10.0.0.7:9000"), lease: 1})
	}
	entries = append(entries, entry{key: "acme/s00000/eu/10.0.0.7:9000", value: []byte("10.0.0.7:9000"), lease: 1})
	p.services = surveyAll(entries)
	compared, nested := 0, 0
	for _, s := range p.services {
		compared += len(p.following(s))
		for _, f := range p.checkNeighbours(s) {
			if f.Kind == kindNestedKey {
				nested++
			}
		}
	}
	if len(p.services) != n+1 || compared != 1 || nested != 1 {
		t.Errorf("%d services, %d comparisons, %d nested", len(p.services), compared, nested)
	}
}

// BenchmarkDoctor looks at 200 services of 50 instances, each on a lease of its own, without dialling.
func BenchmarkDoctor(b *testing.B) {
	etcd := etcdtest.Start(b)
	fill(b, etcd.Admin(), 200, 50)
	args := []string{"doctor", "--no-dial", "--endpoints", strings.Join(etcd.Endpoints(), ",")}
	for b.Loop() {
		var out, errs strings.Builder
		if code := newApp().execute(b.Context(), args, &out, &errs); code != exitFine {
			b.Fatalf("exit %d: %s%s", code, out.String(), errs.String())
		}
	}
}

func fill(b *testing.B, client *clientv3.Client, services, instances int) {
	b.Helper()
	for s := range services {
		var ops []clientv3.Op
		for i := range instances {
			granted, err := client.Grant(b.Context(), 3600)
			if err != nil {
				b.Fatal(err)
			}
			addr := fmt.Sprintf("10.0.%d.%d:9000", s, i)
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("acme/s%03d/%s", s, addr), `{"Addr":"`+addr+`","Metadata":{"version":"v1"}}`, clientv3.WithLease(granted.ID)))
		}
		config := `{"loadBalancingConfig":[{"etcd":{"split":[{"match":{"version":"v1"},"weight":1}]}}]}`
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("_grpc_config/acme/s%03d", s), config))
		if _, err := client.Txn(b.Context()).Then(ops...).Commit(); err != nil {
			b.Fatal(err)
		}
	}
}
