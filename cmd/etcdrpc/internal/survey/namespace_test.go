package survey

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestSurveyAll_Namespaces gives a service the live config that its clients read.
func TestSurveyAll_Namespaces(t *testing.T) {
	for _, tt := range []struct{ marks, want string }{
		{"_grpc_config/a/b/user", "_grpc_config/a/b/user"},
		{"a/b/_grpc_config/order", "a/b/_grpc_config/user"},
		{"a/_grpc_config/order a/a/_grpc_config/order a/b/_grpc_config/order a/c/_grpc_config/order", "a/b/_grpc_config/user"},
		{"a/_grpc_config/order a/a/_grpc_config/order a/b/c/_grpc_config/order", "a/_grpc_config/b/user"},
		{"a/_grpc_leader/order//x a/b/_grpc_leader/order//x", "a/b/_grpc_config/user"},
		{"_grpc_config/a/b/user a/b/_grpc_config/user", "a/b/_grpc_config/user"},
		{"_grpc_config/a/b/user a/b/_grpc_config/order", "_grpc_config/a/b/user"},
		{"_grpc_config/a/b/user a/b/_grpc_leader/order//x", "_grpc_config/a/b/user"},
		{"_grpc_config/a/b/user a/b/_grpc_config/order a/_grpc_leader/b/user//x", "a/_grpc_config/b/user"},
	} {
		entries := []Entry{{Key: "a/b/user/1", Value: []byte("10.0.0.7:80"), Lease: 1}}
		for key := range strings.FieldsSeq(tt.marks) {
			entries = append(entries, Entry{Key: key, Value: []byte("{}"), Lease: 1})
		}
		services := All(entries)
		n := slices.IndexFunc(services, (*Service).InUse)
		if s := services[n]; s.ConfigKey() != tt.want || s.Config != nil && s.Config.Key != tt.want {
			t.Errorf("%s: its clients read %s, want %s", tt.marks, s.ConfigKey(), tt.want)
		}
	}
}

// TestAround returns the namespaces around a key alone: as many services as namespaces are not each compared with all.
func TestAround(t *testing.T) {
	all := namespaces{"": nil}
	for i := range 100 {
		all[fmt.Sprintf("acme/%02d/", i)] = nil
	}
	around := all.around()
	for i := range 100 {
		if got := around(fmt.Sprintf("acme/%02d/user", i)); !slices.Equal(got, []string{"", fmt.Sprintf("acme/%02d/", i)}) {
			t.Errorf("around service %d are %q", i, got)
		}
	}
}
