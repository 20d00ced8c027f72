package inventory

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestEvident distinguishes services from keys of other programs.
func TestEvident(t *testing.T) {
	const lease = 1234567890123456789
	for _, tt := range []struct {
		name string
		want bool
		all  map[string]string // @ stands for the lease
	}{
		{"an address on a lease", false, map[string]string{"services/leader": "10.0.0.1:7000"}},
		{"several", true, map[string]string{"services/a": "10.0.0.1:7000", "services/b": "10.0.0.2:7000"}},
		{"several times one", false, map[string]string{"leaders/a": "10.0.0.1:7000", "leaders/b": "10.0.0.1:7000"}},
		{"several of DNS", false, map[string]string{"/skydns/web/a": `{"host":"10.0.0.1","port":80}`, "/skydns/web/b": `{"host":"10.0.0.2","port":80}`}},
		{"one that is named by its address", true, map[string]string{"acme/user/10.0.0.1:7000": "10.0.0.1:7000"}},
		{"one that is named by its lease", true, map[string]string{"user.rpc/@": "10.0.0.1:7000"}},
		{"one that ends in its lease", true, map[string]string{"hello@": "10.0.0.1:7000"}},
		{"a framework's", true, map[string]string{"/microservices/user/1": `{"id":"1","name":"user","endpoints":["grpc://10.0.0.1:9000"]}`}},
		{"a counter for a caller", false, map[string]string{"limits/10.0.0.1:7000": "17"}},
		{"the session of a caller", false, map[string]string{"clients/10.0.0.1:7000": `{"since":"2026"}`}},
		{"a live config", true, map[string]string{"_grpc_config/acme/user": "{}"}},
		{"a candidate for the leader", true, map[string]string{"_grpc_leader/acme/user//a": "a"}},
	} {
		var entries []Entry
		for key, value := range tt.all {
			entries = append(entries, Entry{Key: strings.ReplaceAll(key, "@", strconv.FormatInt(lease, 10)), Value: []byte(value), Lease: lease})
		}
		if evident := slices.ContainsFunc(All(entries), (*Service).Evident); evident != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, evident, tt.want)
		}
	}
}
