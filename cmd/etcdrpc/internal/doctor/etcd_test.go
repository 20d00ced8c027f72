package doctor

import (
	"errors"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// TestCheckEtcd finds what is wrong with etcd itself, and where that cannot be known, nothing.
func TestCheckEtcd(t *testing.T) {
	refused := errors.New("connection refused")
	three := []store.Member{{Name: "a", URLs: []string{"http://a:2379"}}, {Name: "b", URLs: []string{"http://b:2379"}}, {Name: "c", URLs: []string{"http://c:2379"}}}
	for _, tt := range []struct {
		name     string
		c        store.Cluster
		dead     map[string]error
		severity Severity // "": that of the kind
		says     string
	}{
		{"three members", store.Cluster{Members: three}, map[string]error{}, "", ""},
		{"one of them is away", store.Cluster{Members: three}, map[string]error{"c:2379": refused}, "", "c at c:2379"},
		{"none can be reached from here", store.Cluster{Members: three}, map[string]error{"a:2379": refused, "b:2379": refused, "c:2379": refused}, "", ""},
		{"nobody tried", store.Cluster{Members: three}, nil, "", ""},
		{"two members", store.Cluster{Members: three[:2]}, nil, Note, "stops when either is down"},
		{"an alarm of two members", store.Cluster{Alarms: []string{"NOSPACE", "NOSPACE"}}, nil, Error, "NOSPACE"},
		{"members that differ", store.Cluster{Alarms: []string{"CORRUPT"}}, nil, Error, "CORRUPT"},
		{"a database that is nearly full", store.Cluster{Addresses: []store.Address{{At: "a:2379", Size: 90 << 20, Quota: 100 << 20}}}, nil, "", "takes 90 of 100 MiB"},
		{"a database of which the quota is not known", store.Cluster{Addresses: []store.Address{{At: "a:2379", Size: 90 << 20}}}, nil, "", ""},
	} {
		p := new(patient)
		p.checkEtcd(&tt.c, tt.dead)
		if tt.says == "" && len(p.findings) > 0 || tt.says != "" && (len(p.findings) != 1 || p.findings[0].Severity != tt.severity || !strings.Contains(p.findings[0].Problem, tt.says)) {
			t.Errorf("%s: %+v", tt.name, p.findings)
		}
	}
}
