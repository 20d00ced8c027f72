package endpoint

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	entries := []Entry{
		{&Endpoint{Instance: "b", Addr: "h:2"}, Plain, 1},
		{&Endpoint{Instance: "h:1", Addr: "h:1"}, GoZero, 9},
		{&Endpoint{Instance: "a", Addr: "h:1", Version: "old"}, EndpointJSON, 3},
		{&Endpoint{Instance: "a2", Addr: "h:1", Version: "new"}, Kratos, 4},
		{&Endpoint{Instance: "c2", Addr: "h:3"}, Kitex, 5},
		{&Endpoint{Instance: "c1", Addr: "h:3"}, Kitex, 5},
	}

	want := []Endpoint{
		{Instance: "a2", Addr: "h:1", Version: "new"},
		{Instance: "b", Addr: "h:2"},
		{Instance: "c1", Addr: "h:3"},
	}
	for range 50 {
		rand.Shuffle(len(entries), func(i, j int) {
			entries[i], entries[j] = entries[j], entries[i]
		})

		var got []Endpoint
		for _, i := range Merge(entries) {
			got = append(got, *entries[i].Endpoint)
		}

		if !slices.EqualFunc(got, want, Endpoint.Equal) {
			t.Fatalf("Merge = %+v\nwant %+v", got, want)
		}
	}

	if got := Merge(nil); len(got) != 0 {
		t.Errorf("Merge(nil) = %v, want none", got)
	}
}

// TestMergeOrder checks that of any two entries of an address, one wins. So the
// winner of all entries does not depend on the order of the input.
func TestMergeOrder(t *testing.T) {
	l := MappedJSON(JSONFields{Addr: "addr", Version: "ver"})
	entries := []Entry{ // each wins over all later ones
		{&Endpoint{Instance: "a", Version: "v1", Metadata: map[string]string{"k": "v"}}, Kratos, 5},
		{&Endpoint{Instance: "a", Zone: "z"}, Kratos, 5},
		{&Endpoint{Instance: "b", Zone: "z"}, GoMicro, 5},
		{&Endpoint{Instance: "b", Zone: "z"}, Kratos, 5},
		{&Endpoint{Instance: "a", Version: "v2", Metadata: map[string]string{"k": "v"}},
			EndpointJSON, 4},
		{&Endpoint{Instance: "a", Version: "v1", Metadata: map[string]string{"k": "v"}},
			EndpointJSON, 4},
		{&Endpoint{Instance: "a", Version: "v1", Metadata: map[string]string{"k": "w"}},
			EndpointJSON, 4},
		{&Endpoint{Instance: "a", Version: "v1", Metadata: map[string]string{"l": "a"}},
			EndpointJSON, 4},
		{&Endpoint{Instance: "a", Version: "v1"}, l, 9},
		{&Endpoint{Instance: "a"}, EndpointJSON, 8},
		{&Endpoint{Instance: "a"}, Plain, 9},
		{&Endpoint{Instance: "a"}, GoZero, 7},
	}
	for i := range entries {
		for j := range entries {
			if got := entries[i].beats(&entries[j]); got != (i < j) {
				t.Errorf("%+v in %v beats %+v in %v: %v, want %v", *entries[i].Endpoint,
					entries[i].Layout, *entries[j].Endpoint, entries[j].Layout, got, i < j)
			}
		}
	}
}

// These endpoints are written in every layout.
var (
	full = Endpoint{
		Instance: "i",
		Addr:     "h:1",
		Version:  "v2",
		Zone:     "z",
		Weight:   100,
		Metadata: map[string]string{"any": "other"},
	}

	bare = Endpoint{Instance: "i", Addr: "h:1"}
)

func TestEncode(t *testing.T) {
	// the entry of an endpoint under the service key a/svc and the lease 42
	for _, tt := range []struct {
		layout     Layout
		e          Endpoint
		key, value string
	}{
		{EndpointJSON, full, "a/svc/i",
			`{"Op":0,"Addr":"h:1","Metadata":{"any":"other","version":"v2","weight":100,"zone":"z"}}`},
		{EndpointJSON, bare, "a/svc/i", `{"Op":0,"Addr":"h:1"}`},
		{EndpointJSON, Endpoint{Instance: "1.2.3.4", Addr: "1.2.3.4"}, "a/svc/1.2.3.4",
			`{"Op":0,"Addr":"1.2.3.4"}`},
		{Plain, full, "a/svc/i", "h:1"},
		{LeaseSuffix, full, "a/svc42", "h:1"},
		{GoZero, full, "a/svc/42", "h:1"},
		{Kratos, full, "a/svc/i",
			`{"id":"i","name":"svc","version":"v2","metadata":{"any":"other","weight":"100","zone":"z"},"endpoints":["grpc://h:1","grpcs://h:1"]}`},
		{Kitex, full, "a/svc/h:1",
			`{"network":"tcp","address":"h:1","weight":100,"tags":{"any":"other","version":"v2","zone":"z"}}`},
		{Kitex,
			Endpoint{Instance: "i", Addr: "h:1", Metadata: map[string]string{MethodsName: "a.B/C"}},
			"a/svc/h:1",
			`{"network":"tcp","address":"h:1","weight":0,"tags":{"grpc_methods":"a.B/C"}}`},
		{GoFrame, full, "a/svc/h:1", `{"any":"other","version":"v2","weight":100,"zone":"z"}`},
		{GoFrame, bare, "a/svc/h:1", `{}`},
		{GoMicro, full, "a/svc/i",
			`{"name":"svc","version":"v2","metadata":null,"endpoints":[],"nodes":[{"metadata":{"any":"other","weight":"100","zone":"z"},"id":"i","address":"h:1"}]}`},
		{GoMicro, bare, "a/svc/i",
			`{"name":"svc","version":"","metadata":null,"endpoints":[],"nodes":[{"metadata":{},"id":"i","address":"h:1"}]}`},
		{MappedJSON(JSONFields{Addr: "addr", Name: "name", Version: "version", Weight: "weight"}),
			full, "a/svc/i",
			`{"addr":"h:1","name":"svc","version":"v2","weight":100}`},
		{MappedJSON(JSONFields{Addr: "addr", Version: "ver", Weight: "w"}), bare, "a/svc/i",
			`{"addr":"h:1","ver":""}`},
		{MappedJSON(JSONFields{Host: "ip", Port: "port", Instance: "id", Metadata: "meta"}),
			full, "a/svc/i",
			`{"id":"i","ip":"h","meta":{"any":"other","version":"v2","weight":"100","zone":"z"},"port":1}`},
		{Kitex, bare, "a/svc/h:1", `{"network":"tcp","address":"h:1","weight":0,"tags":null}`},
	} {
		value, err := tt.layout.Encode("a/svc", tt.e)
		if err != nil {
			t.Errorf("%s: Encode(%+v): %v", tt.layout, tt.e, err)
		}

		key := tt.layout.Key("a/svc", tt.e, 42)
		if key != tt.key || string(value) != tt.value {
			t.Errorf("%s: %+v is\n%s %s\nwant\n%s %s",
				tt.layout, tt.e, key, value, tt.key, tt.value)
		}
	}
}

// TestLeaving checks the mark of leaving (K3). FuzzRoundTrip writes and reads
// it in every layout.
func TestLeaving(t *testing.T) {
	e := Endpoint{Instance: "i", Addr: "h:1", Metadata: map[string]string{"k": "v"}}
	marked := e.WithLeaving()
	if e.Leaving() || !marked.Leaving() || marked.Metadata["k"] != "v" {
		t.Errorf("WithLeaving of %+v = %+v, want a copy with the mark", e, marked)
	}

	for mark, want := range map[string]bool{
		`true`:    true,
		`"true"`:  true,
		`"TRUE"`:  false,
		`"false"`: false,
		`""`:      false,
	} {
		value := `{"Addr":"h:1","Metadata":{"grpc_leaving":` + mark + `}}`
		e, _, _, err := reader.Decode("svc", "svc/i", []byte(value), 0)
		if err != nil || e.Leaving() != want {
			t.Errorf("%s: leaving is %v, error %v, want %v", value, e.Leaving(), err, want)
		}
	}
}

func TestCheckMetadataName(t *testing.T) {
	for name, want := range map[string]string{
		"any":       "",
		"grpc":      "",
		"version":   `metadata name "version" is reserved: set the endpoint's version instead`,
		MethodsName: `metadata name "grpc_methods" is reserved: only the runtime sets it`,
		LeavingName: `metadata name "grpc_leaving" is reserved: only the runtime sets it`,
		StartedName: `metadata name "grpc_started" is reserved: only the runtime sets it`,
	} {
		err := CheckMetadataName(name)
		if (err != nil || want != "") && fmt.Sprint(err) != want {
			t.Errorf("CheckMetadataName(%q) = %v, want %s", name, err, want)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	tagged := func(name, value string) Endpoint {
		return Endpoint{Addr: "h:1", Metadata: map[string]string{name: value}}
	}

	for _, tt := range []struct {
		name   string
		layout Layout
		e      Endpoint
	}{
		{"no address", EndpointJSON, Endpoint{Instance: "i"}},
		{"plain without port", Plain, Endpoint{Addr: "1.2.3.4"}},
		{"unix", EndpointJSON, Endpoint{Addr: "unix:80"}},
		{"reserved name", EndpointJSON, tagged("zone", "z")},
		{"weight twice", EndpointJSON,
			Endpoint{Addr: "h:1", Weight: 1, Metadata: map[string]string{"weight": "x"}}},
		{"not UTF-8", Kratos, Endpoint{Addr: "h:1", Version: "\xff"}},
		{"metadata not UTF-8", Plain, tagged("a", "\xff")},
		{"an address in GoFrame's metadata", GoFrame, tagged("address", "h:2")},
		{"host and port in GoFrame's metadata", GoFrame,
			Endpoint{Addr: "h:1", Metadata: map[string]string{"Host": "h", "Port": "2"}}},
		{"another address in GoFrame's metadata", GoFrame, tagged("grpc", "h:2")},
		{"a go-micro node that does not speak gRPC", GoMicro, tagged("protocol", "http")},
		{"too much", Kitex, tagged("a", strings.Repeat("x", MaxValue))},
	} {
		if value, err := tt.layout.Encode("svc", tt.e); err == nil {
			t.Errorf("%s: Encode = %.80s; want an error", tt.name, value)
		}
	}
}

// TestMarks_Cover checks that a mark covers the entries of its owner at the
// address, but neither newer entries nor entries of other owners.
func TestMarks_Cover(t *testing.T) {
	m := Marks{}
	m.Add(Mark{Addr: "h:1", Instance: "a", Lease: 7, Revision: 5})
	m.Add(Mark{Addr: "h:1", Instance: "a", Lease: 7, Revision: 3}) // an older mark changes nothing
	m.Add(Mark{Addr: "h:2", Instance: "added", Revision: 5})       // a mark without a lease

	for _, tt := range []struct {
		addr, instance string
		layout         Layout
		lease, created int64
		covers         bool
	}{
		{"h:1", "a", EndpointJSON, 7, 5, true},
		{"h:1", "a", Kratos, 6, 4, true}, // an entry of an earlier process
		{"h:1", "h:1", LeaseSuffix, 7, 4, true},
		{"h:1", "h:1", Kitex, 7, 4, true},
		{"h:1", "a", EndpointJSON, 7, 6, false},
		{"h:1", "h:1", GoZero, 7, 6, false},
		{"h:1", "h:1", GoZero, 8, 4, false},
		{"h:1", "b", EndpointJSON, 8, 4, false},
		{"h:1", "b", EndpointJSON, 7, 4, false}, // another instance of the same process
		{"h:2", "a", EndpointJSON, 7, 4, false},
		{"h:2", "added", EndpointJSON, 0, 4, true},
		{"h:2", "h:2", Kitex, 0, 4, false},
	} {
		e := Entry{
			Endpoint:       &Endpoint{Addr: tt.addr, Instance: tt.instance},
			Layout:         tt.layout,
			CreateRevision: tt.created,
		}
		if got := m.Cover(e, tt.lease); got != tt.covers {
			t.Errorf("%+v is covered: %v, want %v", tt, got, tt.covers)
		}
	}
}
