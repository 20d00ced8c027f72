package survey

import (
	"fmt"
	"strings"
	"testing"
)

// TestHomeMade tells what JSON is read as home-made, by the fields that it seems to have.
func TestHomeMade(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values map[string]string // by what the key ends in
		want   string            // layout, instance, address and version of each
	}{
		{"GoFrame's metadata has an address", map[string]string{"h:1": `{"metrics":"10.0.0.7:9100","version":"v1"}`}, "go_frame h:1 h:1 v1"},
		{"the address of the key is in a field, too", map[string]string{"h:80": `{"at":"h:80","ver":"v1"}`}, "json_layout h:80 h:80 v1"},
		{"clients know the address without the option", map[string]string{"a": `{"addr":"h:1","ver":"v1"}`, "b": `{"addr":"h:2","ver":""}`},
			"json_layout a h:1 v1, json_layout b h:2"},
		{"clients know all without it", map[string]string{"a": `{"addr":"h:1","version":"v1","weight":3}`, "b": `{"addr":"h"}`},
			"endpoint_json a h:1 v1, endpoint_json b h:443"},
		{"the address of gRPC is beside another", map[string]string{"a": `{"addr":"h:80","grpc_addr":"h:1"}`}, "json_layout a h:1"},
		{"kratos' server speaks HTTP alone", map[string]string{"h:80": `{"id":"h:80","name":"user","version":"v1","metadata":{},"endpoints":["http://h:80"]}`}, ""},
	} {
		var entries []Entry
		for name, value := range tt.values {
			entries = append(entries, Entry{Key: "acme/user/" + name, Value: []byte(value)})
		}
		s, _ := Of("acme/user", entries)
		var got []string
		for _, i := range s.Instances {
			got = append(got, strings.TrimSpace(fmt.Sprintln(s.LayoutName(i), i.Instance, i.Addr, i.Version)))
		}
		if text := strings.Join(got, ", "); text != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, text, tt.want)
		}
	}
}

// An instance is found by its id, though another one's key ends in that.
func TestFind(t *testing.T) {
	s, _ := Of("acme/user", []Entry{
		{Key: "acme/user/0", Value: []byte(`{"addr":"10.0.0.1:80","id":"1"}`), Lease: 1},
		{Key: "acme/user/1", Value: []byte(`{"addr":"10.0.0.2:80","id":"0"}`), Lease: 2},
		{Key: "acme/user/x", Value: []byte(`{"addr":"10.0.0.3:80","id":"2"}`), Lease: 3},
	})
	for name, want := range map[string]string{"0": "10.0.0.2:80", "1": "10.0.0.1:80", "2": "10.0.0.3:80", "x": "10.0.0.3:80"} {
		if i, err := s.Find(name); err != nil || i.Addr != want {
			t.Errorf("%s: %+v, %v, want %s", name, i, err, want)
		}
	}
}

// The segments of a key with a hundred thousand of them are compared by this, which took a second.
func TestNormalName_IsCheap(t *testing.T) {
	if n := testing.AllocsPerRun(10, func() { NormalName("_Grpc-Config.s") }); n > 4 {
		t.Errorf("%v allocations", n)
	}
	if got := NormalName("_Grpc-Config.s"); got != "grpcconfigs" {
		t.Errorf("%q", got)
	}
}
