package endpoint

import (
	"encoding/json"
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
	want := []Endpoint{{Instance: "a2", Addr: "h:1", Version: "new"}, {Instance: "b", Addr: "h:2"}, {Instance: "c1", Addr: "h:3"}}
	for range 50 {
		rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		var got []Endpoint
		for _, i := range Merge(entries) {
			got = append(got, *entries[i].Endpoint)
		}
		if !slices.EqualFunc(got, want, Endpoint.Equal) {
			t.Fatalf("Merge = %+v\nwant %+v", got, want)
		}
	}
	if got := Merge(nil); len(got) != 0 {
		t.Errorf("Merge(nil) = %v", got)
	}
}

func TestEncode(t *testing.T) {
	full := Endpoint{Instance: "i", Addr: "h:1", Version: "v2", Zone: "z", Weight: 100, Metadata: map[string]string{"any": "other"}}
	bare := Endpoint{Instance: "i", Addr: "h:1"}
	tests := []struct {
		layout     *Layout
		e          Endpoint
		key, value string
	}{
		{EndpointJSON, full, "a/svc/i", `{"Op":0,"Addr":"h:1","Metadata":{"any":"other","version":"v2","weight":100,"zone":"z"}}`},
		{EndpointJSON, bare, "a/svc/i", `{"Op":0,"Addr":"h:1"}`},
		{EndpointJSON, Endpoint{Instance: "1.2.3.4", Addr: "1.2.3.4"}, "a/svc/1.2.3.4", `{"Op":0,"Addr":"1.2.3.4"}`},
		{Plain, full, "a/svc/i", "h:1"},
		{LeaseSuffix, full, "a/svc42", "h:1"},
		{GoZero, full, "a/svc/42", "h:1"},
		{Kratos, full, "a/svc/i", `{"id":"i","name":"svc","version":"v2","metadata":{"any":"other","weight":"100","zone":"z"},"endpoints":["grpc://h:1","grpcs://h:1"]}`},
		{Kitex, full, "a/svc/h:1", `{"network":"tcp","address":"h:1","weight":100,"tags":{"any":"other","version":"v2","zone":"z"}}`},
		{Kitex, bare, "a/svc/h:1", `{"network":"tcp","address":"h:1","weight":0,"tags":null}`},
	}
	for _, tt := range tests {
		value, err := tt.layout.Encode("a/svc", tt.e)
		if err != nil {
			t.Errorf("%s: Encode(%+v): %v", tt.layout, tt.e, err)
		}
		if key := tt.layout.Key("a/svc", tt.e, 42); key != tt.key || string(value) != tt.value {
			t.Errorf("%s: %+v is\n%s %s\nwant\n%s %s", tt.layout, tt.e, key, value, tt.key, tt.value)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	e := Endpoint{Instance: "i", Addr: "[::1]:80", Version: `v"2`, Zone: "<z>", Weight: 7,
		Metadata: map[string]string{"": "empty", "metadata": `"x"`, "é": "\n"}}
	for _, layout := range layouts {
		value, err := layout.Encode("svc", e)
		if err != nil {
			t.Fatal(err)
		}
		got, gotLayout, ok, err := Decode("svc", layout.Key("svc", e, 42), value, 42)
		if err != nil || !ok || gotLayout != layout {
			t.Fatalf("%s: Decode = %v, ok %v, error %v", layout, gotLayout, ok, err)
		}
		want := e
		if !layout.JSON() {
			want = Endpoint{Instance: "i", Addr: e.Addr}
		}
		if layout.at != atInstance {
			want.Instance = e.Addr
		}
		if !got.Equal(want) {
			t.Errorf("%s: %+v came back as %+v", layout, want, got)
		}
	}
}

// What kratos and kitex readers do with a value: the first fails its whole list on a value it
// cannot parse, the second decodes all values into one struct.
func TestOthersReadOurs(t *testing.T) {
	e := Endpoint{Instance: "i", Addr: "h:1", Version: "v", Zone: "z", Weight: 3, Metadata: map[string]string{"weight2": "1"}}
	for _, layout := range []*Layout{EndpointJSON, Kratos, Kitex} {
		value, err := layout.Encode("ns/svc", e)
		if err != nil {
			t.Fatal(err)
		}
		var kratos struct {
			ID        string            `json:"id"`
			Name      string            `json:"name"`
			Version   string            `json:"version"`
			Metadata  map[string]string `json:"metadata"`
			Endpoints []string          `json:"endpoints"`
		}
		if err := json.Unmarshal(value, &kratos); layout == Kratos && (err != nil || kratos.Name != "svc" || kratos.ID != "i") {
			t.Errorf("kratos reads %s as %+v, error %v", value, kratos, err)
		}
	}
	kitex := struct {
		Network string            `json:"network"`
		Address string            `json:"address"`
		Weight  int               `json:"weight"`
		Tags    map[string]string `json:"tags"`
	}{"unix", "before", 99, map[string]string{"before": "x"}}
	value, err := Kitex.Encode("svc", Endpoint{Instance: "i", Addr: "h:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(value, &kitex); err != nil || kitex.Network != "tcp" || kitex.Address != "h:1" || kitex.Weight != 0 || kitex.Tags != nil {
		t.Errorf("kitex reads %s as %+v, error %v", value, kitex, err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	tests := []struct {
		name   string
		layout *Layout
		e      Endpoint
	}{
		{"no address", EndpointJSON, Endpoint{Instance: "i"}},
		{"plain without port", Plain, Endpoint{Addr: "1.2.3.4"}},
		{"unix", EndpointJSON, Endpoint{Addr: "unix:80"}},
		{"reserved name", EndpointJSON, Endpoint{Addr: "h:1", Metadata: map[string]string{"zone": "z"}}},
		{"weight twice", EndpointJSON, Endpoint{Addr: "h:1", Weight: 1, Metadata: map[string]string{"weight": "x"}}},
		{"not UTF-8", Kratos, Endpoint{Addr: "h:1", Version: "\xff"}},
		{"metadata not UTF-8", Plain, Endpoint{Addr: "h:1", Metadata: map[string]string{"a": "\xff"}}},
		{"too much", Kitex, Endpoint{Addr: "h:1", Metadata: map[string]string{"a": strings.Repeat("x", MaxValue)}}},
	}
	for _, tt := range tests {
		if value, err := tt.layout.Encode("svc", tt.e); err == nil {
			t.Errorf("%s: Encode = %.80s; want an error", tt.name, value)
		}
	}
}

func TestLayoutByName(t *testing.T) {
	for _, layout := range layouts {
		if got, err := LayoutByName(layout.String()); err != nil || got != layout {
			t.Errorf("LayoutByName(%q) = %v, %v", layout, got, err)
		}
	}
	if _, err := LayoutByName("LEASE_SUFFIX"); err == nil || !strings.Contains(err.Error(), "lease_suffix") {
		t.Errorf("LayoutByName of an unknown name: %v", err)
	}
}

func TestRange(t *testing.T) {
	for _, leaseSuffix := range []bool{false, true} {
		from, end := Range("svc", leaseSuffix)
		in := func(key string) bool { return from <= key && key < end }
		for _, key := range []string{"svc/", "svc/a", "svc/\xff\xff"} {
			if !in(key) {
				t.Errorf("%q is not in [%q, %q)", key, from, end)
			}
		}
		for _, key := range []string{"svc", "svc-admin/a", "svc.x", "svca", "svc:", "svd"} {
			if in(key) {
				t.Errorf("%q is in [%q, %q)", key, from, end)
			}
		}
		if in("svc42") != leaseSuffix || in("svc9") != leaseSuffix {
			t.Errorf("lease suffixes in [%q, %q): want %v", from, end, leaseSuffix)
		}
	}
}
