package doctor

import (
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

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
		s := &survey.Service{Key: "a"}
		for addr := range strings.FieldsSeq(tt.instances) {
			s.Add(survey.Entry{Key: "a/" + addr, Value: []byte(addr)})
		}
		if got := known([]*survey.Service{s}, tt.etcd).alone; got != tt.want {
			t.Errorf("etcd at %s, instances at %s: %v", tt.etcd, tt.instances, got)
		}
	}
}
