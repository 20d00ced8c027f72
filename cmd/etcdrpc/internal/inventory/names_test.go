package inventory

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

func TestCompareNames(t *testing.T) {
	inOrder := []string{"", "10.0.0.5:80", "10.0.0.5:443", "10.0.0.10:80", "10.0.0.010:80",
		"10.0.0.010:81", "a", "a-2", "a-2b", "a-18446744073709551617", "b1"}
	for i, a := range inOrder {
		for k, b := range inOrder {
			if got, want := CompareNames(a, b), cmp.Compare(i, k); got != want {
				t.Errorf("CompareNames(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

// Reading the methods of an entry takes little memory. The full names of the
// methods in these 16 KiB would take 32 MiB.
func TestMethods_LongNamesAreNotCopied(t *testing.T) {
	text := strings.Repeat("s", 8000) + "/M" + strings.Repeat(",a", 4000)
	s := &Service{Instances: []Instance{{
		Endpoint: endpoint.Endpoint{
			Addr:     "10.0.0.1:1",
			Metadata: map[string]string{endpoint.MethodsName: text},
		}, Layout: endpoint.EndpointJSON,
	}}}

	named := []serviceconfig.MethodName{{Service: "s"},
		{Service: strings.Repeat("s", 8000), Method: "M"}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)

	if unserved := s.Unserved(named); !slices.Equal(unserved, named[:1]) {
		t.Errorf("Unserved() = %d names, want only the first of %d", len(unserved), len(named))
	}

	runtime.ReadMemStats(&after)

	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 1<<20 {
		t.Errorf("reading %[2]d bytes of methods allocated %[1]d bytes, want at most %[3]d", bytes,
			len(text), 1<<20)
	}
}

func TestUnserved(t *testing.T) {
	type names = []serviceconfig.MethodName

	asked := names{{Service: "a.S"}, {Service: "a.S", Method: "Get"},
		{Service: "a.S", Method: "Put"}, {Service: "a.T"}, {Service: "b.U"}}
	for name, tt := range map[string]struct {
		published []string
		want      names
	}{
		"no instance":                  {nil, nil},
		"every name published":         {[]string{"a.S/Get,Put;a.T/X;b.U/Y"}, nil},
		"some names published":         {[]string{"b.U/Y;a.S/Get"}, names{asked[2], asked[3]}},
		"other names in each instance": {[]string{"a.T/X", "a.S/Put"}, names{asked[1], asked[4]}},
		"an instance without methods":  {[]string{"a.T/X", ""}, nil},
	} {
		var s Service
		for i, text := range tt.published {
			e := endpoint.Endpoint{
				Addr:     fmt.Sprintf("10.0.0.%d:1", i),
				Metadata: map[string]string{endpoint.MethodsName: text},
			}

			s.Instances = append(s.Instances, Instance{Endpoint: e, Layout: endpoint.EndpointJSON})
		}

		if got := s.Unserved(asked); !slices.Equal(got, tt.want) {
			t.Errorf("%s: Unserved() = %v, want %v", name, got, tt.want)
		}
	}
}
