package doctor

import (
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

func TestMisleadingAddress(t *testing.T) {
	const never, among, always = "10.0.0.7:1 user.internal:1 localhosts:1 [2001:db8::7]:1 [::ffff:10.0.0.7]:1",
		"127.0.0.1:1 127.9.9.9:1 [::1]:1 [::ffff:127.0.0.1]:1",
		"0.0.0.0:1 169.254.1.1:1 239.1.1.1:1 LocalHost.:1 [::]:1 [::ffff:0.0.0.0]:1 [fe80::1]:1 localhost:1 user.localhost:1"
	for _, tt := range []struct{ etcd, others, want string }{ // addresses, and whether the service is on one host
		{"127.0.0.1:2379", "", "one host"},
		{"http://localhost:2379", "[::1]:9", "one host"},
		{"unix:///run/etcd.sock", "127.0.0.1:9", "one host"},
		{"https://etcd-1:2379", "", ""},
		{"10.0.0.1:2379", "127.0.0.1:9", ""},
		{"127.0.0.1:2379", "127.0.0.1:9 10.0.0.8:9", ""},
	} {
		for _, addr := range strings.Fields(never + " " + among + " " + always) {
			entries := []inventory.Entry{{Key: "acme/elsewhere/10.0.0.9:1", Value: []byte("10.0.0.9:1"), Lease: 1}}
			for addr := range strings.FieldsSeq(addr + " " + tt.others) {
				entries = append(entries, inventory.Entry{Key: "acme/user/" + addr, Value: []byte(addr), Lease: 1})
			}
			p := examinationOf(inventory.All(entries), tt.etcd)
			p.check()
			want := strings.Contains(always, addr) || tt.want == "" && strings.Contains(among, addr)
			got := slices.ContainsFunc(p.findings, func(f Finding) bool { return f.Kind == "local-address" && strings.Contains(f.Problem, " "+addr+" ") })
			if got != want {
				t.Errorf("etcd at %s, %s beside %q: found = %v, want %v", tt.etcd, addr, tt.others, got, want)
			}
		}
	}
}
