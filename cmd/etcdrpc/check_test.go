package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/doctor"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestKindsAreDocumented looks for kinds of the page's table that there are not. The page says what a kind's name leaves
// open; doctor --help lists all of them.
func TestKindsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## doctor")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ").FindAllStringSubmatch(section, -1)
	if len(rows) == 0 {
		t.Errorf("%s has no table of kinds", page)
	}
	for _, row := range rows {
		if !slices.Contains(doctor.KindNames(), row[1]) {
			t.Errorf("%s explains the kind %s, which there is not", page, row[1])
		}
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
