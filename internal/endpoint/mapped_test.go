package endpoint

import (
	"strings"
	"testing"
)

// TestMappedJSON reads entries with readers of a home-made JSON. If the
// home-made JSON and a known layout share the address field, the fields of both
// are read. Home-made JSON does not change how other layouts are read.
func TestMappedJSON(t *testing.T) {
	whole := JSONFields{
		Addr:     "endpoint",
		Instance: "id",
		Version:  "ver",
		Zone:     "az",
		Weight:   "w",
		Metadata: "labels",
		Name:     "svc",
	}

	split := JSONFields{Host: "ip", Port: "port"}
	home := JSONFields{
		Addr:     "addr",
		Instance: "id",
		Version:  "ver",
		Weight:   "w",
		Metadata: "labels",
	}

	labels := map[string]string{"k": "v"}
	for _, tt := range []struct {
		fields JSONFields
		value  string
		want   Endpoint // as filled returns it
		layout Layout   // zero for home-made JSON
	}{
		{whole, `{"endpoint":"h:1"}`, Endpoint{}, Layout{}},
		{whole, `{"endpoint":"h:1","w":"3"}`, Endpoint{Weight: 3}, Layout{}},
		{whole, `{"endpoint":"h:1","ver":2,"az":3}`, Endpoint{Version: "2", Zone: "3"}, Layout{}},
		{whole, `{"endpoint":"h:1","Ver":"v1","ENDPOINT":"h:2"}`, Endpoint{}, Layout{}},
		{split, `{"ip":"::1","port":"9000"}`, Endpoint{Addr: "[::1]:9000"}, Layout{}},
		{split, `{"ip":"h","address":"h:2"}`, Endpoint{Addr: "h:2"}, Kitex},
		{whole, `h:1`, Endpoint{}, Plain},
		{home, `{"addr":"h:1","id":"x","ver":"v1","w":3,"labels":{"k":"v"}}`,
			Endpoint{
				Instance: "x",
				Version:  "v1",
				Weight:   3,
				Metadata: labels,
			}, Layout{}},
		{home, `{"Op":0,"addr":"h:1","version":"v2","Metadata":{"zone":"z","weight":9,"m":"n"},"w":3,"labels":{"k":"v"}}`,
			Endpoint{
				Version:  "v2",
				Zone:     "z",
				Weight:   3,
				Metadata: map[string]string{"k": "v", "m": "n"},
			}, EndpointJSON},
		{home, `{"addr":"h:1","weight":9,"w":0}`, Endpoint{Weight: 9}, EndpointJSON},
		{home, `{"addr":"h","id":"a/b"}`, Endpoint{Addr: "h:443"}, EndpointJSON},
		{JSONFields{Addr: "address", Version: "version"},
			`{"Addr":"h:2","address":"h:1","version":"v1","tags":{"k":"v"}}`,
			Endpoint{Version: "v1", Metadata: labels}, Kitex},
		{JSONFields{Host: "Host", Port: "Port", Version: "Version"},
			`{"Host":"h","Port":1,"Version":"v1","Enable":true,"Metadata":{"k":"v"}}`,
			Endpoint{Version: "v1", Metadata: labels}, Dubbo},
		{JSONFields{Addr: "endpoints", Weight: "w"},
			`{"endpoints":"h:1","version":"v1","w":3}`,
			Endpoint{Weight: 3}, Layout{}},
		{JSONFields{Addr: "endpoints", Weight: "w"},
			`{"endpoints":["grpc://h:1"],"version":"v1","w":3}`,
			Endpoint{Version: "v1", Weight: 3}, Kratos},
		{JSONFields{Addr: "endpoints"},
			`{"endpoints":[],"version":"v1","nodes":[{"id":"a","address":"h:1"}]}`,
			Endpoint{Version: "v1"}, GoMicro},
		{JSONFields{Addr: "Addr", Version: "Op"}, `{"Op":"v1","Addr":"h:1"}`,
			Endpoint{Version: "v1"}, Layout{}},
	} {
		layout := MappedJSON(tt.fields)
		if tt.layout.IsZero() {
			tt.layout = layout
		}

		want := filled(tt.want)
		got, gotLayout, ok, err := Reader{JSON: layout}.Decode("svc", "svc/a", []byte(tt.value), 0)
		if err != nil || !ok || gotLayout != tt.layout || !got.Equal(want) {
			t.Errorf("%s with %v is %+v in %v, ok %v, error %v\nwant %+v in %v",
				tt.value, tt.fields, got, gotLayout, ok, err, want, tt.layout)
		}
	}

	for value, fields := range map[string]JSONFields{
		`{"Op":1,"Addr":"h:1"}`:                {Addr: "Addr", Weight: "Weight"},
		`{"Host":"h","Port":1,"Enable":false}`: {Host: "Host", Port: "Port"},
		`{"Host":"h","Port":1,"Metadata":{"dubbo.endpoints":"[{\"port\":1,\"protocol\":\"dubbo\"}]"}}`: {
			Host:     "Host",
			Port:     "Port",
			Metadata: "Metadata",
		},
	} {
		r := Reader{JSON: MappedJSON(fields)}
		e, layout, _, err := r.Decode("svc", "svc/a", []byte(value), 0)
		if err == nil {
			t.Errorf("%s with %v is %+v in %v, want an error", value, fields, e, layout)
		}
	}
}

func TestJSONFieldsCheck(t *testing.T) {
	for _, tt := range []struct {
		fields JSONFields
		want   string // in the error; "" for none
	}{
		{JSONFields{Addr: "addr"}, ""},
		{JSONFields{Host: "ip", Port: "port", Name: "name"}, ""},
		{JSONFields{}, "names no address"},
		{JSONFields{Version: "v"}, "names no address"},
		{JSONFields{Host: "ip"}, "one of host and port"},
		{JSONFields{Port: "port"}, "one of host and port"},
		{JSONFields{Addr: "addr", Port: "port"}, "addr together with host or port"},
		{JSONFields{Addr: "addr", Weight: "addr"},
			`names the field "addr" for both addr and weight`},
		{JSONFields{Addr: "addr", Zone: "x", Name: "x"},
			`names the field "x" for both zone and name`},
		{JSONFields{Addr: strings.Repeat("x", MaxField+1)}, "longer than 64 bytes"},
		{JSONFields{Addr: "\xff"}, "UTF-8"},
	} {
		err := tt.fields.Check()
		if (err == nil) != (tt.want == "") ||
			err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error %v, want %q", tt.fields, err, tt.want)
		}

		layout := MappedJSON(tt.fields)
		if _, err := NewReader(layout); (err == nil) != (tt.want == "") {
			t.Errorf("NewReader with %v: error %v, want %q", tt.fields, err, tt.want)
		}

		_, err = layout.Encode("svc", Endpoint{Instance: "a", Addr: "h:1"})
		if (err == nil) != (tt.want == "") {
			t.Errorf("Encode with %v: error %v, want %q", tt.fields, err, tt.want)
		}
	}
}

func TestNewReader(t *testing.T) {
	mapped := MappedJSON(JSONFields{Addr: "addr"})
	r, err := NewReader(EndpointJSON, LeaseSuffix, mapped, mapped)
	if err != nil || r != (Reader{true, mapped}) {
		t.Errorf("NewReader = %+v, error %v, want %+v", r, err, Reader{true, mapped})
	}

	_, err = NewReader(mapped, MappedJSON(JSONFields{Addr: "address"}))
	if err == nil || !strings.Contains(err.Error(), "two JSON layouts") {
		t.Errorf("NewReader with two JSON layouts: %v, want an error", err)
	}
}

// TestMappedJSON_NamesMissingFields reads entries in home-made JSON that lack a
// needed value.
func TestMappedJSON_NamesMissingFields(t *testing.T) {
	addr := MappedJSON(JSONFields{Addr: "at", Instance: "id"})
	split := MappedJSON(JSONFields{Host: "ip", Port: "port"})
	for _, tt := range []struct {
		layout      Layout
		value, want string
	}{
		{addr, `{"at":5}`, "json_layout entry: the address is 5, not a string"},
		{addr, `{"at":"h:1","id":[1]}`,
			"json_layout entry: the instance id is [1], neither a string nor a number"},
		{addr, `{"at":null}`,
			`JSON that names no address: nothing where json_layout {addr: "at" instance: "id"} has it, no Addr (etcd)`},
		{addr, `{"at":"h:1","id":"a/b"}`, "must not have a slash"},
		// not a path
		{MappedJSON(JSONFields{Addr: "node.at"}), `{"node":{"at":"h:1"}}`,
			`nothing where json_layout {addr: "node.at"} has it`},
		{split, `{"ip":"h"}`, `nothing where json_layout {host: "ip" port: "port"} has it`},
		{split, `{"ip":"h","port":true}`,
			"json_layout entry: the port is true, neither a number nor a string with one"},
		{split, `{"ip":"h","port":65536}`, "want a port from 1 to 65535"},
		{split, `{"ip":{},"port":1}`, "json_layout entry: the host is {}, not a string"},
		{split, `{"ip":"h:1","port":1}`, `address "[h:1]:1"`},
	} {
		e, _, _, err := (Reader{JSON: tt.layout}).Decode("svc", "svc/i", []byte(tt.value), 0)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s is %+v, %v; want %q in the error", tt.value, e, err, tt.want)
		}
	}
}
