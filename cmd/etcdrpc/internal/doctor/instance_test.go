package doctor

import (
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

func TestIsMisleading(t *testing.T) {
	for addr, want := range map[string][2]bool{ // with one host, with several
		"10.0.0.7:9000":           {false, false},
		"user.internal:9000":      {false, false},
		"localhosts:9000":         {false, false},
		"[2001:db8::7]:9000":      {false, false},
		"[::ffff:10.0.0.7]:9000":  {false, false},
		"127.0.0.1:9000":          {false, true},
		"127.9.9.9:9000":          {false, true},
		"[::1]:9000":              {false, true},
		"[::ffff:127.0.0.1]:9000": {false, true},
		"169.254.1.1:9000":        {true, true},
		"[fe80::1]:9000":          {true, true},
		"0.0.0.0:9000":            {true, true},
		"[::]:9000":               {true, true},
		"[::ffff:0.0.0.0]:9000":   {true, true},
		"239.1.1.1:9000":          {true, true},
		"localhost:9000":          {true, true},
		"LocalHost.:9000":         {true, true},
		"user.localhost:9000":     {true, true},
	} {
		got := [2]bool{(&examination{Options: new(Options), oneHost: true}).isMisleading(addr), (&examination{Options: new(Options)}).isMisleading(addr)}
		if got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
		if skips := (&examination{Options: &Options{skip: []string{string(KindLocal)}}}); skips.isMisleading(addr) {
			t.Errorf("isMisleading(%q) = true, want false while KindLocal is skipped", addr)
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
		s := &inventory.Service{Key: "a"}
		for addr := range strings.FieldsSeq(tt.instances) {
			s.Add(inventory.Entry{Key: "a/" + addr, Value: []byte(addr)})
		}
		if got := examinationOf([]*inventory.Service{s}, tt.etcd).oneHost; got != tt.want {
			t.Errorf("etcd at %q, instances at %q: oneHost = %v, want %v", tt.etcd, tt.instances, got, tt.want)
		}
	}
}
