package inventory

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func TestIsMethod(t *testing.T) {
	for _, tc := range []struct {
		name string
		want bool
	}{
		{"acme.user.v1.Users/Get", true},
		{"/acme.user.v1.Users/Get", true},
		{"Users/Get", true},
		{"v1.Users/Get", true},
		{"Get", true},
		{"et", false},
		{"sers/Get", false},
		{"/Get", true},
		{"Users", false},
		{"get", false},
		{"Other/Get", false},
	} {
		if got := IsMethod(serviceconfig.MethodName{Service: "acme.user.v1.Users", Method: "Get"}, tc.name); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// Reading the methods of an entry takes little memory: written in full, the methods of these 16 KiB took 32 MiB.
func TestMethods_LongNamesAreNotCopied(t *testing.T) {
	text := strings.Repeat("s", 8000) + "/M" + strings.Repeat(",a", 4000)
	s := &Service{Instances: []Instance{{
		Endpoint: endpoint.Endpoint{Addr: "10.0.0.1:1", Metadata: map[string]string{endpoint.MethodsName: text}}, Layout: endpoint.EndpointJSON,
	}}}
	named := []serviceconfig.MethodName{{Service: "s"}, {Service: strings.Repeat("s", 8000), Method: "M"}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if s.Instances[0].Serves("x/a") || len(s.Methods()) != 2 {
		t.Error("it serves x/a, or not two methods")
	}
	if unserved, _ := s.Unserved(named); !slices.Equal(unserved, named[:1]) {
		t.Errorf("%d are unserved", len(unserved))
	}
	runtime.ReadMemStats(&after)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 1<<20 {
		t.Errorf("it takes %d bytes to look through %d", bytes, len(text))
	}
}

// Of many methods the first are listed.
func TestMethods_AreTheFirst(t *testing.T) {
	var s Service
	for i := range 3000 {
		text := fmt.Sprintf("S%d/M%04d", i%2, 2999-i)
		s.Instances = append(s.Instances, Instance{Endpoint: endpoint.Endpoint{Metadata: map[string]string{endpoint.MethodsName: text}}})
	}
	if got := s.Methods(); len(got) != maxMethods || got[0] != "S0/M0001" || got[99] != "S0/M0199" {
		t.Errorf("%d methods: %v", len(got), got)
	}
}

func TestUnserved(t *testing.T) {
	type names = []serviceconfig.MethodName
	asked := names{{Service: "a.S"}, {Service: "a.S", Method: "Get"}, {Service: "a.S", Method: "Put"}, {Service: "a.T"}, {Service: "b.U"}}
	for name, tt := range map[string]struct {
		published []string
		want      names
		example   string
	}{
		"no instance":           {nil, nil, ""},
		"one that says all":     {[]string{"a.S/Get,Put;a.T/X;b.U/Y"}, nil, "a.S"},
		"some of it":            {[]string{"b.U/Y;a.S/Get"}, names{asked[2], asked[3]}, "a.S"},
		"each another part":     {[]string{"a.T/X", "a.S/Put"}, names{asked[1], asked[4]}, "a.S"},
		"one that says nothing": {[]string{"a.T/X", ""}, nil, ""},
	} {
		var s Service
		for i, text := range tt.published {
			e := endpoint.Endpoint{Addr: fmt.Sprintf("10.0.0.%d:1", i), Metadata: map[string]string{endpoint.MethodsName: text}}
			s.Instances = append(s.Instances, Instance{Endpoint: e, Layout: endpoint.EndpointJSON})
		}
		if got, example := s.Unserved(asked); !slices.Equal(got, tt.want) || example != tt.example {
			t.Errorf("%s: %v, such as %q, want %v and %q", name, got, example, tt.want, tt.example)
		}
	}
}
