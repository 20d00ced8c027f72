package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// TestNeighboursOfMany counts the services that are compared with each: only those whose keys begin with its.
func TestNeighboursOfMany(t *testing.T) {
	const n = 2000
	var entries []survey.Entry
	for i := range n {
		entries = append(entries, survey.Entry{Key: fmt.Sprintf("acme/s%05d/10.0.0.7:9000", i), Value: []byte("10.0.0.7:9000"), Lease: 1})
	}
	entries = append(entries, survey.Entry{Key: "acme/s00000/eu/10.0.0.7:9000", Value: []byte("10.0.0.7:9000"), Lease: 1})
	p := known(survey.All(entries))
	compared := 0
	for _, s := range p.services {
		compared += len(p.following(s))
		p.checkNeighbours(s)
	}
	if len(p.services) != n+1 || compared != 1 || len(p.findings) != 1 || p.findings[0].Kind != KindNestedKey {
		t.Errorf("%d services, %d comparisons, %+v", len(p.services), compared, p.findings)
	}
}

// TestNeighboursOfChains compares keys of which each begins with the one before: all pairs, so a comparison copies no key.
func TestNeighboursOfChains(t *testing.T) {
	const n = 200
	for _, segment := range []string{"/a", "a"} {
		var entries []survey.Entry
		for i := range n {
			entries = append(entries, survey.Entry{Key: "acme" + strings.Repeat(segment, i) + "/10.0.0.7:9000", Value: []byte("10.0.0.7:9000"), Lease: 1})
		}
		slices.SortFunc(entries, func(a, b survey.Entry) int { return strings.Compare(a.Key, b.Key) })
		p := known(survey.All(entries))
		if allocs := testing.AllocsPerRun(1, func() {
			for _, s := range p.services {
				p.checkNeighbours(s)
			}
		}); len(p.services) != n || allocs > 50*n {
			t.Errorf("%d services, %v allocations", len(p.services), allocs)
		}
	}
}

// TestNeighboursAreBounded has services of which each begins like all before it.
func TestNeighboursAreBounded(t *testing.T) {
	var entries []survey.Entry
	for i := range 50 {
		entries = append(entries, survey.Entry{Key: "acme/user" + strings.Repeat("1", i+1), Value: []byte("10.0.0.7:9000"), Lease: 1})
	}
	p := known(survey.All(entries))
	p.check()
	told := slices.DeleteFunc(p.findings, func(f Finding) bool { return f.Kind != KindNeighbour })
	if want := output.MaxWhere*(50-output.MaxWhere) + 2 + 1; len(told) != want {
		t.Errorf("%d findings of %d services, want %d", len(told), len(p.services), want)
	}
}

// TestNeighboursOfLarge looks at the many entries of a service once, however many begin like it.
func TestNeighboursOfLarge(t *testing.T) {
	const n = 1000
	services := []*survey.Service{{Key: "acme/user", Instances: make([]survey.Instance, n)}}
	for i := range n {
		services = append(services, &survey.Service{Key: fmt.Sprintf("acme/user%05d", i), Malformed: make([]survey.Instance, 1)})
	}
	p := known(services)
	if allocs := testing.AllocsPerRun(1, func() { p.checkNeighbours(services[0]) }); allocs > n/10 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestMixesUp(t *testing.T) {
	of := func(key string, layout endpoint.Layout, weight uint32) *survey.Service {
		e := endpoint.Endpoint{Instance: "a", Addr: "h:1", Weight: weight}
		value, err := layout.Encode(key, e)
		if err != nil {
			t.Fatal(err)
		}
		return &survey.Service{Key: key, Instances: []survey.Instance{{Endpoint: e, Layout: layout, Entry: survey.Entry{Key: layout.Key(key, e, 1), Value: value}}}}
	}
	with := func(layout endpoint.Layout, value string) *survey.Service {
		s := of("user2", layout, 0)
		s.Instances[0].Entry.Value = []byte(value)
		return s
	}
	malformed := &survey.Service{Key: "user2", Malformed: []survey.Instance{{Entry: survey.Entry{Key: "user2/a", Value: []byte(`{"Addr":"h`)}}}}
	const goFrame = "/service/default/default/user/latest"
	two := of(goFrame+"2", endpoint.GoFrame, 0)
	two.Instances[0].Entry.Key = goFrame + "2/h:1,h:2"
	for _, tc := range []struct {
		name string
		s, o *survey.Service
		want bool
	}{
		{"ours", of("user", endpoint.EndpointJSON, 0), of("user-admin", endpoint.Plain, 0), false},
		{"go-zero's lists with the slash", of("user", endpoint.GoZero, 0), of("user-admin", endpoint.GoZero, 0), false},
		{"lease suffix", of("user", endpoint.LeaseSuffix, 0), of("user2", endpoint.LeaseSuffix, 0), true},
		{"kitex lists with the slash", of("user", endpoint.Kitex, 0), of("user2", endpoint.Kitex, 0), false},
		{"GoFrame beside GoFrame", of(goFrame, endpoint.GoFrame, 0), of(goFrame+"2", endpoint.GoFrame, 0), false},
		{"GoFrame takes several addresses", of(goFrame, endpoint.GoFrame, 0), two, false},
		{"GoFrame has no reader of other keys", of("user", endpoint.GoFrame, 0), of("user2", endpoint.Kratos, 0), false},
		{"GoFrame panics at a name", of(goFrame, endpoint.GoFrame, 0), of(goFrame+"2", endpoint.Kratos, 0), true},
		{"GoFrame fails at plain", of(goFrame, endpoint.GoFrame, 0), of(goFrame+"2", endpoint.Plain, 0), true},
		{"kratos skips other names", of("user", endpoint.Kratos, 0), of("user2", endpoint.Kratos, 0), false},
		{"kratos parses naming", of("user", endpoint.Kratos, 0), of("user2", endpoint.EndpointJSON, 0), false},
		{"kratos fails at a weight", of("user", endpoint.Kratos, 0), of("user2", endpoint.EndpointJSON, 5), true},
		{"kratos takes texts for metadata", of("user", endpoint.Kratos, 0), with(endpoint.EndpointJSON, `{"Addr":"h:1","Metadata":{"k":"v"}}`), false},
		{"kratos fails at a number in metadata", of("user", endpoint.Kratos, 0), with(endpoint.EndpointJSON, `{"Addr":"h:1","Metadata":{"k":1}}`), true},
		{"kratos fails at metadata that is a text", of("user", endpoint.Kratos, 0), with(endpoint.EndpointJSON, `{"Addr":"h:1","Metadata":"x"}`), true},
		{"kratos fails at a version that is a number", of("user", endpoint.Kratos, 0), with(endpoint.EndpointJSON, `{"addr":"h:1","version":2}`), true},
		{"kratos parses our go-micro", of("user", endpoint.Kratos, 0), of("user2", endpoint.GoMicro, 5), false},
		{"kratos fails at go-micro's own endpoints", of("user", endpoint.Kratos, 0),
			with(endpoint.GoMicro, `{"name":"user2","version":"","metadata":null,"endpoints":[{"name":"Say.Hello"}],"nodes":[{"id":"a","address":"h:1"}]}`), true},
		{"kratos fails at half an entry", of("user", endpoint.Kratos, 0), malformed, true},
		{"kitex bears half an entry", of("user", endpoint.Kitex, 0), malformed, false},
		{"kratos fails at plain", of("user", endpoint.Kratos, 0), of("user2", endpoint.Plain, 0), true},
		{"nested is another matter", of("user", endpoint.Kitex, 0), of("user/eu", endpoint.Kitex, 0), false},
		{"the longer one is not hurt", of("user2", endpoint.Kitex, 0), of("user", endpoint.Kitex, 0), false},
	} {
		if got := make(Readings).MixesUp(tc.s)(tc.o) != ""; got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// The entries of a service that begins like many are read once.
func TestMixesUp_ReadsOnce(t *testing.T) {
	const goFrame = "/service/default/default/user/latest"
	of := func(key string) *survey.Service {
		value := `{"x":[` + strings.Repeat(`"y",`, 1000) + `"z"]}`
		return &survey.Service{Key: key, Instances: []survey.Instance{{Layout: endpoint.GoFrame, Entry: survey.Entry{Key: key + "/h:1", Value: []byte(value)}}}}
	}
	mixesUp, o := make(Readings).MixesUp(of(goFrame)), of(goFrame+"2")
	if n := testing.AllocsPerRun(10, func() { mixesUp(o) }); n > 10 {
		t.Errorf("%v allocations", n)
	}
}
