package endpoint

import (
	"strings"
	"testing"
)

func TestMappedJSON(t *testing.T) {
	whole := JSONFields{Addr: "endpoint", Instance: "id", Version: "ver", Zone: "az", Weight: "w", Metadata: "labels", Name: "svc"}
	split := JSONFields{Host: "ip", Port: "port"}
	for _, tt := range []struct {
		name   string
		fields JSONFields
		value  string
		want   Endpoint
		layout Layout // zero: the mapped one
	}{
		{"all fields", whole, `{"endpoint":"h:1","id":"x","ver":"v1","az":"z","w":3,"labels":{"k":"v"},"svc":"other"}`,
			Endpoint{Instance: "x", Addr: "h:1", Version: "v1", Zone: "z", Weight: 3, Metadata: map[string]string{"k": "v"}}, Layout{}},
		{"the address alone", whole, `{"endpoint":"h:1"}`, Endpoint{Instance: "a", Addr: "h:1"}, Layout{}},
		{"null for the rest", whole, `{"endpoint":"h:1","id":null,"ver":null,"w":null,"labels":null}`, Endpoint{Instance: "a", Addr: "h:1"}, Layout{}},
		{"the weight is text", whole, `{"endpoint":"h:1","w":"3"}`, Endpoint{Instance: "a", Addr: "h:1", Weight: 3}, Layout{}},
		{"the weight is none", whole, `{"endpoint":"h:1","w":-1.5}`, Endpoint{Instance: "a", Addr: "h:1"}, Layout{}},
		{"version and zone are numbers", whole, `{"endpoint":"h:1","ver":2,"az":3}`, Endpoint{Instance: "a", Addr: "h:1", Version: "2", Zone: "3"}, Layout{}},
		{"fields are told by case", whole, `{"endpoint":"h:1","Ver":"v1","ENDPOINT":"h:2"}`, Endpoint{Instance: "a", Addr: "h:1"}, Layout{}},
		{"host and port", split, `{"ip":"10.0.0.7","port":9000}`, Endpoint{Instance: "a", Addr: "10.0.0.7:9000"}, Layout{}},
		{"the port is text", split, `{"ip":"::1","port":"9000"}`, Endpoint{Instance: "a", Addr: "[::1]:9000"}, Layout{}},
		{"another layout", whole, `{"Addr":"h:1"}`, Endpoint{Instance: "a", Addr: "h:1"}, EndpointJSON},
		{"another layout, without a port of its own", split, `{"ip":"h","address":"h:2"}`, Endpoint{Instance: "a", Addr: "h:2"}, Kitex},
		{"plain", whole, `h:1`, Endpoint{Instance: "a", Addr: "h:1"}, Plain},
	} {
		layout := MappedJSON(tt.fields)
		if tt.layout.IsZero() {
			tt.layout = layout
		}
		got, gotLayout, ok, err := Reader{JSON: layout}.Decode("svc", "svc/a", []byte(tt.value), 0)
		if err != nil || !ok || gotLayout != tt.layout || !got.Equal(tt.want) {
			t.Errorf("%s: %s is %+v in %v, %v, %v\nwant %+v in %v", tt.name, tt.value, got, gotLayout, ok, err, tt.want, tt.layout)
		}
	}
}

func TestMappedJSONIsComparable(t *testing.T) {
	a, b := MappedJSON(JSONFields{Addr: "addr"}), MappedJSON(JSONFields{Addr: "addr"})
	if a != b || a == MappedJSON(JSONFields{Addr: "address"}) || a == EndpointJSON {
		t.Error("layouts of equal fields differ, or others are equal")
	}
	if got, want := MappedJSON(JSONFields{Host: "ip", Port: "p"}).String(), `{host: "ip" port: "p"}`; got != want {
		t.Errorf("it is spelled %s, want %s", got, want)
	}
}

func TestJSONFieldsCheck(t *testing.T) {
	for _, tt := range []struct {
		fields JSONFields
		want   string // "": none
	}{
		{JSONFields{Addr: "addr"}, ""},
		{JSONFields{Host: "ip", Port: "port", Name: "name"}, ""},
		{JSONFields{}, "names no address"},
		{JSONFields{Version: "v"}, "names no address"},
		{JSONFields{Host: "ip"}, "one of host and port"},
		{JSONFields{Port: "port"}, "one of host and port"},
		{JSONFields{Addr: "addr", Port: "port"}, "addr beside host or port"},
		{JSONFields{Addr: "addr", Weight: "addr"}, `names the field "addr" for both addr and weight`},
		{JSONFields{Addr: "addr", Zone: "x", Name: "x"}, `names the field "x" for both zone and name`},
		{JSONFields{Addr: strings.Repeat("x", MaxField+1)}, "at most 64 bytes"},
		{JSONFields{Addr: "\xff"}, "UTF-8"},
	} {
		err := tt.fields.Check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: error %v, want %q", tt.fields, err, tt.want)
		}
		if _, err := NewReader(MappedJSON(tt.fields)); (err == nil) != (tt.want == "") {
			t.Errorf("%v: a reader: %v", tt.fields, err)
		}
		if _, err := MappedJSON(tt.fields).Encode("svc", Endpoint{Instance: "a", Addr: "h:1"}); (err == nil) != (tt.want == "") {
			t.Errorf("%v: it encodes: %v", tt.fields, err)
		}
	}
}

func TestNewReader(t *testing.T) {
	mapped := MappedJSON(JSONFields{Addr: "addr"})
	if r, err := NewReader(EndpointJSON, LeaseSuffix, mapped, mapped); err != nil || r != (Reader{true, mapped}) {
		t.Errorf("NewReader = %+v, %v", r, err)
	}
	if _, err := NewReader(mapped, MappedJSON(JSONFields{Addr: "address"})); err == nil || !strings.Contains(err.Error(), "two JSON layouts") {
		t.Errorf("two JSON layouts: %v", err)
	}
}

// TestMappedJSONSaysWhatIsMissing has entries that are in the layout, and lack what is needed.
func TestMappedJSONSaysWhatIsMissing(t *testing.T) {
	addr, split := MappedJSON(JSONFields{Addr: "at", Instance: "id"}), MappedJSON(JSONFields{Host: "ip", Port: "port"})
	for _, tt := range []struct {
		layout      Layout
		value, want string
	}{
		{addr, `{"at":5}`, "json_layout entry: the address is 5, not a string"},
		{addr, `{"at":"h:1","id":[1]}`, "json_layout entry: the instance id is [1], neither a string nor a number"},
		{addr, `{"at":null}`, `JSON that names no address: nothing where json_layout {addr: "at" instance: "id"} has it, no Addr (etcd)`},
		{addr, `{"Addr":null}`, "etcd's naming entry: the address is null"},
		{addr, `{"at":"h"}`, `address "h": want host:port`},
		{addr, `{"at":"h:1","id":"a/b"}`, "must not have a slash"},
		{MappedJSON(JSONFields{Addr: "node.at"}), `{"node":{"at":"h:1"}}`, `nothing where json_layout {addr: "node.at"} has it`}, // a path is none
		{split, `{"ip":"h"}`, `nothing where json_layout {host: "ip" port: "port"} has it`},
		{split, `{"ip":"h","port":true}`, "json_layout entry: the port is true, neither a number nor the text of one"},
		{split, `{"ip":"h","port":65536}`, "want a port from 1 to 65535"},
		{split, `{"ip":"h","port":80.0}`, "want a port from 1 to 65535"},
		{split, `{"ip":{},"port":1}`, "json_layout entry: the host is {}, not a string"},
		{split, `{"ip":"h:1","port":1}`, `address "[h:1]:1"`},
	} {
		if e, _, _, err := (Reader{JSON: tt.layout}).Decode("svc", "svc/i", []byte(tt.value), 0); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s is %+v, %v; want %q in the error", tt.value, e, err, tt.want)
		}
	}
}

// readEntry decodes a value that is on lease 1, under the key "a/user".
func readEntry(t *testing.T, r Reader, instance, value string) (Endpoint, Layout) {
	t.Helper()
	e, layout, ok, err := r.Decode("a/user", "a/user/"+instance, []byte(value), 1)
	if !ok || err != nil {
		t.Fatalf("%s: %v, %v", value, ok, err)
	}
	return e, layout
}

func mappedReader(t *testing.T, fields JSONFields) Reader {
	t.Helper()
	r, err := NewReader(MappedJSON(fields))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A client that is told of a home-made JSON reads all other layouts as it would without, also where a field has
// the name of one of theirs.
func TestMappedReaderReadsTheOthersWhole(t *testing.T) {
	e := Endpoint{Instance: "10.0.0.7:9000", Addr: "10.0.0.7:9000", Version: "v2", Zone: "z", Weight: 5}.WithLeaving()
	for _, tt := range []struct {
		fields JSONFields
		layout Layout
	}{
		{JSONFields{Addr: "Addr", Version: "Version", Weight: "Weight", Name: "Name"}, EndpointJSON},
		{JSONFields{Addr: "address", Weight: "w"}, Kitex},
	} {
		value, err := tt.layout.Encode("a/user", e)
		if err != nil {
			t.Fatal(err)
		}
		if got, layout := readEntry(t, mappedReader(t, tt.fields), e.Instance, string(value)); !got.Equal(e) || layout != tt.layout {
			t.Errorf("%v beside %v: read as %+v in %v, want %+v", tt.layout, tt.fields, got, layout, e)
		}
	}
	for fields, value := range map[JSONFields]string{
		{Addr: "Addr", Weight: "Weight"}: `{"Op":1,"Addr":"10.0.0.7:9000"}`,
		{Host: "Host", Port: "Port"}:     `{"ServiceName":"user","Host":"10.0.0.7","Port":9000,"Enable":false,"Healthy":false,"Metadata":{}}`,
	} {
		if _, layout, _, err := mappedReader(t, fields).Decode("a/user", "a/user/a", []byte(value), 1); err == nil {
			t.Errorf("%v: %s is an endpoint, in %v", fields, value, layout)
		}
	}
}

// Fields of a home-made JSON that has its address where a known layout has it are read in either.
func TestMappedOverKnown(t *testing.T) {
	home := JSONFields{Addr: "addr", Instance: "id", Version: "ver", Weight: "w", Metadata: "labels"}
	for _, tt := range []struct {
		fields JSONFields
		value  string
		want   Endpoint
		layout Layout // zero: the mapped one
	}{
		{home, `{"addr":"h:1","id":"x","ver":"v1","w":3,"labels":{"k":"v"}}`,
			Endpoint{Instance: "x", Addr: "h:1", Version: "v1", Weight: 3, Metadata: map[string]string{"k": "v"}}, Layout{}},
		{home, `{"Op":0,"addr":"h:1","version":"v2","Metadata":{"zone":"z","weight":9,"m":"n"},"w":3,"labels":{"k":"v"}}`,
			Endpoint{Instance: "a", Addr: "h:1", Version: "v2", Zone: "z", Weight: 3, Metadata: map[string]string{"k": "v", "m": "n"}}, EndpointJSON},
		{home, `{"addr":"h:1","weight":9,"w":0}`, Endpoint{Instance: "a", Addr: "h:1", Weight: 9}, EndpointJSON},
		{home, `{"addr":"h","id":"a/b"}`, Endpoint{Instance: "a", Addr: "h:443"}, EndpointJSON},
		{home, `{"addr":null,"Addr":"h:1","w":3}`, Endpoint{Instance: "a", Addr: "h:1"}, EndpointJSON},
		{JSONFields{Addr: "address", Version: "version"}, `{"Addr":"h:2","address":"h:1","version":"v1","tags":{"k":"v"}}`,
			Endpoint{Instance: "a", Addr: "h:1", Version: "v1", Metadata: map[string]string{"k": "v"}}, Kitex},
		{JSONFields{Host: "Host", Port: "Port", Version: "Version"}, `{"Host":"h","Port":1,"Version":"v1","Enable":true,"Metadata":{"k":"v"}}`,
			Endpoint{Instance: "a", Addr: "h:1", Version: "v1", Metadata: map[string]string{"k": "v"}}, Dubbo},
		{JSONFields{Addr: "endpoints", Weight: "w"}, `{"endpoints":"h:1","version":"v1","w":3}`, Endpoint{Instance: "a", Addr: "h:1", Weight: 3}, Layout{}},
		{JSONFields{Addr: "endpoints", Weight: "w"}, `{"endpoints":["grpc://h:1"],"version":"v1","w":3}`,
			Endpoint{Instance: "a", Addr: "h:1", Version: "v1", Weight: 3}, Kratos},
		{JSONFields{Addr: "endpoints"}, `{"endpoints":[],"version":"v1","nodes":[{"id":"a","address":"h:1"}]}`, Endpoint{Instance: "a", Addr: "h:1", Version: "v1"}, GoMicro},
		{JSONFields{Addr: "nodes"}, `{"nodes":[{"id":"a","address":"h:1"}]}`, Endpoint{Instance: "a", Addr: "h:1"}, GoMicro},
		{JSONFields{Addr: "Addr", Version: "Op"}, `{"Op":"v1","Addr":"h:1"}`, Endpoint{Instance: "a", Addr: "h:1", Version: "v1"}, Layout{}},
	} {
		if tt.layout.IsZero() {
			tt.layout = MappedJSON(tt.fields)
		}
		if got, layout := readEntry(t, mappedReader(t, tt.fields), "a", tt.value); !got.Equal(tt.want) || layout != tt.layout {
			t.Errorf("%s beside %v is %+v in %v\nwant %+v in %v", tt.value, tt.fields, got, layout, tt.want, tt.layout)
		}
	}
	const noTriple = `{"Host":"h","Port":1,"Metadata":{"dubbo.endpoints":"[{\"port\":1,\"protocol\":\"dubbo\"}]"}}`
	dubbo := mappedReader(t, JSONFields{Host: "Host", Port: "Port", Metadata: "Metadata"})
	if e, layout, _, err := dubbo.Decode("a/user", "a/user/a", []byte(noTriple), 0); err == nil {
		t.Errorf("%s is %+v in %v", noTriple, e, layout)
	}
}
