package doctor

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// serviceAt returns a service with an entry for each address.
func serviceAt(key, addresses string) *inventory.Service {
	s := &inventory.Service{Key: key}
	for addr := range strings.FieldsSeq(addresses) {
		s.Add(inventory.Entry{Key: key + "/" + addr, Value: []byte(addr)})
	}
	return s
}

func TestMisleadingAddress(t *testing.T) {
	const never, among, always = "10.0.0.7:1 user.internal:1 localhosts:1 [2001:db8::7]:1 [::ffff:10.0.0.7]:1",
		"127.0.0.1:1 127.9.9.9:1 [::1]:1 [::ffff:127.0.0.1]:1",
		"0.0.0.0:1 169.254.1.1:1 239.1.1.1:1 LocalHost.:1 [::]:1 [::ffff:0.0.0.0]:1 [fe80::1]:1 localhost:1 user.localhost:1"
	for _, tt := range []struct {
		etcd, others string // addresses
		oneHost      bool
	}{
		{"127.0.0.1:2379", "", true},
		{"http://localhost:2379", "[::1]:9", true},
		{"unix:///run/etcd.sock", "127.0.0.1:9", true},
		{"https://etcd-1:2379", "", false},
		{"10.0.0.1:2379", "127.0.0.1:9", false},
		{"127.0.0.1:2379", "127.0.0.1:9 10.0.0.8:9", false},
	} {
		for _, addr := range strings.Fields(never + " " + among + " " + always) {
			p := examinationOf([]*inventory.Service{serviceAt("acme/elsewhere", "10.0.0.9:1"), serviceAt("acme/user", addr+" "+tt.others)}, tt.etcd)
			p.check()
			want := strings.Contains(always, addr) || !tt.oneHost && strings.Contains(among, addr)
			got := slices.ContainsFunc(p.findings, func(f Finding) bool { return f.Kind == KindLocal && strings.Contains(f.Problem, " "+addr+" ") })
			if got != want {
				t.Errorf("etcd at %s, %s beside %q: found = %v, want %v", tt.etcd, addr, tt.others, got, want)
			}
		}
	}
}

// TestMisleadingAddress_Dead checks that a dead server at an address that may mislead is found, too.
func TestMisleadingAddress_Dead(t *testing.T) {
	p := examinationOf([]*inventory.Service{serviceAt("acme/user", "127.0.0.1:1 10.0.0.7:1")})
	if got := p.addresses(); len(got) != 2 {
		t.Errorf("addresses to connect to: %q, want 2", got)
	}
	p.probed, p.dialErrors = true, map[string]error{"127.0.0.1:1": errors.New("connection refused")}
	p.check()
	if !slices.ContainsFunc(p.findings, func(f Finding) bool { return f.Kind == KindUnreachable }) {
		t.Errorf("found %+v, want %s", p.findings, KindUnreachable)
	}
}
