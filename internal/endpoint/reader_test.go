package endpoint

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// reader reads all layouts except home-made JSON.
var reader = Reader{LeaseSuffix: true}

// decoded has entries and the endpoints they decode to, as [filled] returns
// them.
var decoded = []struct {
	name    string
	etcdKey string
	value   string
	lease   int64
	want    Endpoint
	layout  Layout
}{
	{"naming without port", "svc/1.2.3.4", `{"Addr":"1.2.3.4","Metadata":"..."}`, 0,
		Endpoint{
			Instance: "1.2.3.4",
			Addr:     "1.2.3.4:443",
			Metadata: map[string]string{"metadata": `"..."`},
		}, EndpointJSON},
	{"naming IPv6 without port", "svc/a", `{"Addr":"fd00::1"}`, 0,
		Endpoint{Addr: "[fd00::1]:443"}, EndpointJSON},
	{"naming with nested metadata", "svc/a",
		`{"Addr":"h:1","Metadata":{"a":{"b":[1,2]},"n":5,"t":true,"z":null,"e":"\u00e9\n"}}`, 0,
		Endpoint{Metadata: map[string]string{
			"a": `{"b":[1,2]}`,
			"n": "5",
			"t": "true",
			"z": "null",
			"e": "é\n",
		}}, EndpointJSON},
	{"naming with odd weight", "svc/a", `{"Addr":"h:1","Metadata":{"weight":-1.5}}`, 0,
		Endpoint{Metadata: map[string]string{"weight": "-1.5"}}, EndpointJSON},
	{"naming metadata is a number", "svc/a", `{"Addr":"h:1","Metadata":5}`, 0,
		Endpoint{Metadata: map[string]string{"metadata": "5"}}, EndpointJSON},
	{"naming-like, with upper-case names", "svc/a", `{"Addr":"h:1","Version":"v1","Zone":"z","Weight":"3","metadata":{"k":"v"}}`, 0,
		Endpoint{
			Version:  "v1",
			Zone:     "z",
			Weight:   3,
			Metadata: map[string]string{"k": "v"},
		}, EndpointJSON},
	{"naming, with upper case in the metadata", "svc/a", `{"Addr":"h:1","Metadata":{"Version":"v1","Zone":"z","Weight":3}}`, 0,
		Endpoint{Version: "v1", Zone: "z", Weight: 3}, EndpointJSON},
	{"naming, with fields next to the address and in the metadata", "svc/a", `{"Addr":"h:1","version":"v1","weight":3,"Metadata":{"version":"v2","weight":4}}`, 0,
		Endpoint{Version: "v2", Weight: 4}, EndpointJSON},
	{"naming with a weight that is too large", "svc/a", `{"addr":"h:1","weight":4294967296}`, 0,
		Endpoint{}, EndpointJSON},
	{"plain under another lease's id", "svc/1234", "h:1", 7587869,
		Endpoint{Instance: "1234"}, Plain},
	{"go-zero", "svc/7587869", "10.0.0.7:9000", 7587869,
		Endpoint{Instance: "10.0.0.7:9000", Addr: "10.0.0.7:9000"}, GoZero},
	{"lease suffix", "svc7587869", "10.0.0.7:9000", 7587869,
		Endpoint{Instance: "10.0.0.7:9000", Addr: "10.0.0.7:9000"}, LeaseSuffix},
	{"kratos with TLS", "svc/id-1", `{"endpoints":["https://h:1","grpcs://[::1]:9000"],"metadata":null}`, 0,
		Endpoint{Instance: "id-1", Addr: "[::1]:9000"}, Kratos},
	{"GoFrame without metadata", "svc/h:1", ` {} `, 0, Endpoint{Instance: "h:1"}, GoFrame},
	{"go-micro with five nodes", "svc/a-3", `{"nodes":[{"id":"a/1","address":"h:1"},{"id":"a/2","address":"h:2"},{"id":"a/3","address":"h:3"},{"id":"a/4","address":"h:4"},{"id":"a/5","address":"h:5"}]}`, 0,
		Endpoint{Instance: "a-3", Addr: "h:3"}, GoMicro},
	{"go-micro under another name", "svc/x", `{"nodes":[{"id":"a/1","address":"h:1"}]}`, 0,
		Endpoint{Instance: "x"}, GoMicro},
	{"null beside the address", "svc/a", `{"addr":null,"Addr":"h:1","Metadata":{},"metadata":{"weight":5},"version":"v2","Version":null}`, 0,
		Endpoint{Version: "v2", Weight: 5}, EndpointJSON},
	{"null behind the address", "svc/a", `{"Addr":"h:1","addr":null,"metadata":{"weight":5},"Metadata":{},"Version":null,"version":"v2"}`, 0,
		Endpoint{Version: "v2", Weight: 5}, EndpointJSON},
	{"kratos with addresses that cannot be dialed", "svc/a",
		`{"endpoints":["grpc://:9000",5,"grpc://h:1"]}`, 0, Endpoint{}, Kratos},
	{"a value of maximum length", "svc/a",
		`{"Addr":"h:1"` + strings.Repeat(" ", MaxValue-14) + "}", 0,
		Endpoint{}, EndpointJSON},
}

// filled returns an endpoint with the id "a" and the address h:1, where it has
// none.
func filled(e Endpoint) Endpoint {
	e.Instance = cmp.Or(e.Instance, "a")
	e.Addr = cmp.Or(e.Addr, "h:1")

	return e
}

func TestDecode(t *testing.T) {
	for _, tt := range decoded {
		t.Run(tt.name, func(t *testing.T) {
			got, layout, ok, err := reader.Decode("svc", tt.etcdKey, []byte(tt.value), tt.lease)
			if err != nil || !ok {
				t.Fatalf("Decode = ok %v, error %v, want true and nil", ok, err)
			}

			want := filled(tt.want)
			if !got.Equal(want) || layout != tt.layout {
				t.Errorf("Decode = %+v, %v\nwant %+v, %v", got, layout, want, tt.layout)
			}
		})
	}
}

// malformed maps malformed values to part of the error, which names the format
// and the field. TestCheckAddr tests addresses, and TestDecode_WrongTypes
// fields of wrong types.
var malformed = map[string]string{
	"":                         "empty",
	"1.2.3.4:80\n":             "want a port",
	"\xff:1":                   "the host must not have",
	strings.Repeat("x", 1<<20): "the value is neither host:port nor JSON",
	`{"Addr":"h:1"` + strings.Repeat(" ", MaxValue-13) + "}": "more than 524288",
	`{"Addr":"h:1"} x`: "malformed JSON",
	`"h:1"`:            "want a port",
	`{"nodes":[{"id":"x","address":"h:1"},{"id":"y","address":"h:2"}]}`: "go-micro entry: 2 nodes, none of which has the id",
	`{"Host":"h","Port":1,"Enable":false,"Healthy":true}`:               "dubbo entry: ",
	`{"Host":"h","Port":1,"Enable":true,"Healthy":false}`:               "dubbo entry: ",
	`{"endpoints":["grpc://h:1:2:%zz"]}`:                                "kratos entry: ",
	`{"endpoints":["grpc://:9000","http://h:1"]}`:                       `address ":9000"`,
	`{"network":"unix","address":"h:1"}`:                                "kitex entry: ",
	`{"Addr":"h:1,h:2"}`:                                                "want a single host:port",
	"{\"Addr\":\"h:1\",\"Metadata\":\"\xff\"}":                          "UTF-8",
	`{"Op":1,"Addr":"h:1"}`:                                             "etcd's naming entry: the entry marks a deletion",
	`{"endpoints":["http://h:1"]}`:                                      "kratos entry: none of the endpoints is grpc:// or grpcs://",
	`{"address":"h"}`:                                                   `kitex entry: address "h": want host:port`,
	`{"nodes":[]}`:                                                      "go-micro entry: it has no nodes",
	`{"nodes":null,"endpoints":[{}]}`:                                   "go-micro entry: the address is null",
	`{"nodes":5}`:                                                       "go-micro entry: nodes is 5, not an array",
	`{"nodes":[5]}`:                                                     "go-micro entry: a node is 5, not an object",
	`{"nodes":[{"id":"a"}]}`:                                            "go-micro entry: there is no address",
	`{"endpoints":{}}`:                                                  "kratos entry: endpoints is {}, not an array",
	`{"endpoints":[5]}`:                                                 "kratos entry: the endpoint is 5, not a string",
	`{"Host":"h","Port":0}`:                                             `dubbo entry: address "h:0": want a port`,
	`{"id":"x","ip":"h","port":80}`:                                     "JSON that names no address",
	`{"Addr":"h:1"`:                                                     "malformed JSON",
	`{"endpoints":[` + strings.Repeat(`"grpc://%",`, 1024) + `"grpc://h:1"]}`: `kratos entry: endpoint "grpc://%" is not a URL`,
	`{` + strings.Repeat(`"\u0061":1,`, 1024) + `"Addr":"h:1"}`:               "JSON that names no address",
}

func TestDecodeMalformed(t *testing.T) {
	for value, want := range malformed {
		e, _, ok, err := reader.Decode("svc", "svc/a", []byte(value), 0)
		if !ok || err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%.80s is %+v, ok %v, error %v, want an error with %q",
				value, e, ok, err, want)
		}
	}

	tooLong := "svc/" + strings.Repeat("x", MaxInstance+1)
	for _, etcdKey := range []string{"svc/", "svc/\xff", tooLong} {
		_, _, ok, err := reader.Decode("svc", etcdKey, []byte("h:1"), 0)
		if !ok || err == nil {
			t.Errorf("Decode(%.80q) = ok %v, error %v; want an error", etcdKey, ok, err)
		}
	}

	_, _, ok, err := reader.Decode("svc", "svc12", []byte("garbage"), 12)
	if !ok || err == nil {
		t.Errorf("Decode of garbage with a lease suffix = ok %v, error %v; want an error", ok, err)
	}
}

func TestDecodeNotOurs(t *testing.T) {
	for _, tt := range []struct {
		key, etcdKey string
		lease        int64
	}{
		{"svc", "svc", 12},
		{"svc", "other/a", 12},
		{"svc", "svc-admin/a", 12},
		{"svc", "svc/nested/a", 12},
		{"svc", "svc2/a", 12},
		{"hello", "hello212", 12}, // hello2's
		{"hello", "hello12", 0},
		{"hello", "hello12", 13},
		{"hello", "hello012", 12},
		{"hello", "hello12/a", 12},
	} {
		_, _, ok, err := reader.Decode(tt.key, tt.etcdKey, []byte("h:1"), tt.lease)
		if ok || err != nil {
			t.Errorf("Decode(%q, %q, lease %d) = ok %v, error %v; want neither",
				tt.key, tt.etcdKey, tt.lease, ok, err)
		}
	}
}

// TestDecode_BoundsMetadata checks the bound on the metadata that others write.
func TestDecode_BoundsMetadata(t *testing.T) {
	pieces := func(n int) map[string]string {
		m := make(map[string]string)
		for i := range n {
			m[fmt.Sprint("k", i)] = ""
		}

		return m
	}

	for _, layout := range []Layout{EndpointJSON, Kratos, Kitex} {
		e := Endpoint{
			Instance: "10.0.0.1:9000",
			Addr:     "10.0.0.1:9000",
			Metadata: pieces(MaxMetadata),
		}

		value, err := layout.Encode("k", e)
		if err != nil {
			t.Fatalf("%v: %v", layout, err)
		}

		got, _, _, err := reader.Decode("k", "k/10.0.0.1:9000", value, 0)
		if err != nil || len(got.Metadata) != MaxMetadata {
			t.Errorf("%v: Decode = %d pieces, error %v, want %d",
				layout, len(got.Metadata), err, MaxMetadata)
		}

		e.Metadata = pieces(MaxMetadata + 1)

		if _, err := layout.Encode("k", e); err == nil {
			t.Errorf("%v: Encode accepts more than %d pieces", layout, MaxMetadata)
		}

		value = bytes.Replace(value, []byte(`"k0"`), []byte(`"more":"","k0"`), 1)
		if got, _, _, err := reader.Decode("k", "k/10.0.0.1:9000", value, 0); err == nil {
			t.Errorf("%v: Decode = %d pieces, want an error", layout, len(got.Metadata))
		}
	}
}

// TestDecode_ForeignProtocols checks that instances of another protocol than
// gRPC are rejected.
func TestDecode_ForeignProtocols(t *testing.T) {
	const micro, dubbo = `{"nodes":[{"id":"a","address":"h:1","metadata":{"k":"v"PROTOCOL}}]}`,
		`{"Host":"h","Port":1,"Metadata":{"k":"v"PROTOCOL}}`
	for _, tt := range []struct{ value, protocol, wrong string }{
		{micro, ``, ""},
		{micro, `,"protocol":"grpc"`, ""},
		{micro, `,"protocol":"mucp"`, `go-micro entry: the node's protocol is "mucp", not grpc`},
		{dubbo, ``, ""},
		{dubbo, `,"dubbo.endpoints":"[]"`, ""},
		{dubbo, `,"dubbo.endpoints":"[{\"port\":1,\"protocol\":\"tri\"}]"`, ""},
		{dubbo, `,"dubbo.endpoints":"[{\"port\":2,\"protocol\":\"dubbo\"},{\"port\":1,\"protocol\":\"grpc\"}]"`, ""},
		{strings.Replace(dubbo, "1", "2", 1),
			`,"dubbo.endpoints":"[{\"port\":2,\"protocol\":\"dubbo\"},{\"port\":1,\"protocol\":\"tri\"}]"`,
			""},
		{dubbo, `,"dubbo.endpoints":"[{\"port\":2,\"protocol\":\"dubbo\"}]"`,
			`dubbo entry: the instance's protocol is "dubbo", neither tri nor grpc`},
	} {
		value := strings.Replace(tt.value, "PROTOCOL", tt.protocol, 1)
		e, _, _, err := reader.Decode("svc", "svc/a", []byte(value), 0)
		switch {
		case tt.wrong == "" && (err != nil || e.Addr != "h:1" || e.Metadata["k"] != "v"):
			t.Errorf("Decode(%s) = %+v, %v, want h:1 and its metadata", value, e, err)
		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("Decode(%s) = %+v, error %v, want %q in it", value, e, err, tt.wrong)
		}
	}
}

// sample is an entry at 10.0.0.7:9000, spelled as the writers of its format
// spell it.
type sample struct {
	name, etcdKey, value string
	reader               Reader
	instance             string // the last segment of the key, or ""
}

// samples has an entry of each JSON layout. The test file of a layout may add
// samples in init.
var samples = []sample{
	{"etcd's naming entry", "svc/a",
		`{"Op":0,"Addr":"10.0.0.7:9000","Metadata":{"version":"v2","zone":"z","weight":7,"k":"v"}}`,
		reader, ""},
	{"etcd's naming entry", "svc/a",
		`{"name":"svc","addr":"10.0.0.7:9000","version":"v2","zone":"z","weight":7,"metadata":{"k":"v"}}`,
		reader, ""},
	{"kratos entry", "svc/a",
		`{"id":"a","name":"svc","version":"v2","metadata":{"zone":"z","weight":"7","k":"v"},"endpoints":["grpc://10.0.0.7:9000?isSecure=false"]}`,
		reader, ""},
	{"kitex entry", "svc/10.0.0.7:9000",
		`{"network":"tcp","address":"10.0.0.7:9000","weight":7,"tags":{"version":"v2","zone":"z","k":"v"}}`,
		reader, ""},
	{"GoFrame entry", "svc/10.0.0.7:9000", `{"version":"v2","zone":"z","weight":7,"k":"v"}`,
		reader, ""},
	{"go-micro entry", "svc/a", `{"name":"svc","version":"v2","metadata":{"zone":"z"},"endpoints":[{"name":"A.B"}],` +
		`"nodes":[{"id":"a","address":"10.0.0.7:9000","metadata":{"weight":"7","k":"v"}}]}`, reader, ""},
	{"dubbo entry", "svc/10.0.0.7:9000", `{"ID":"a","ServiceName":"svc","Host":"10.0.0.7","Port":9000,"Enable":true,"Healthy":true,` +
		`"Metadata":{"version":"v2","zone":"z","weight":"7","k":"v"}}`, reader, ""},
	{"json_layout entry", "svc/a", `{"at":"10.0.0.7:9000","i":"a","ver":"v2","az":"z","w":7,"labels":{"k":"v"},"svc":"svc"}`,
		Reader{JSON: MappedJSON(JSONFields{
			Addr:     "at",
			Instance: "i",
			Version:  "ver",
			Zone:     "az",
			Weight:   "w",
			Metadata: "labels",
			Name:     "svc",
		})}, ""},
	{"json_layout entry", "svc/a", `{"ip":"10.0.0.7","port":9000,"labels":{"version":"v2","zone":"z","weight":"7","k":"v"}}`,
		Reader{JSON: MappedJSON(JSONFields{Host: "ip", Port: "port", Metadata: "labels"})}, ""},
}

func (s sample) decode(value string) (Endpoint, error) {
	e, _, _, err := s.reader.Decode("svc", s.etcdKey, []byte(value), 0)
	return e, err
}

// whole is the endpoint that each sample describes.
var whole = Endpoint{
	Addr:     "10.0.0.7:9000",
	Version:  "v2",
	Zone:     "z",
	Weight:   7,
	Metadata: map[string]string{"k": "v"},
}

func TestSamples(t *testing.T) {
	for _, l := range table {
		sampled := slices.ContainsFunc(samples, func(s sample) bool {
			return s.name == l.entry
		})
		if l.address != nil && !sampled {
			t.Errorf("layout %v has no sample", l)
		}
	}

	for _, s := range samples {
		want := whole
		want.Instance = cmp.Or(s.instance, strings.TrimPrefix(s.etcdKey, "svc/"))

		if e, err := s.decode(s.value); err != nil || !e.Equal(want) {
			t.Errorf("%s: Decode(%s) = %+v, %v, want %+v", s.name, s.value, e, err, want)
		}
	}
}

// TestDecode_WrongTypes puts values of other types into the fields with the
// version, the zone and the metadata k. Either the other fields of the entry
// are still read, or the error names the format.
func TestDecode_WrongTypes(t *testing.T) {
	fields := map[string]string{
		"version": whole.Version,
		"zone":    whole.Zone,
		"k":       whole.Metadata["k"],
	}
	for _, s := range samples {
		for name, right := range fields {
			for _, wrong := range []string{"null", "true", "-1.5", "1e300", `""`, `"h:1,h:2"`,
				"[[]]", `{"a":{}}`, `{"a":"` + strings.Repeat(`\n`, 300) + `"}`} {
				value := strings.Replace(s.value, strconv.Quote(right), wrong, 1)
				e, err := s.decode(value)
				checkError(t, err)

				text := fmt.Sprint(err)
				if strings.HasPrefix(text, s.name+": ") ||
					strings.HasPrefix(text, "JSON that names no address") {
					continue
				}

				got := map[string]string{"version": e.Version, "zone": e.Zone, "k": e.Metadata["k"]}
				got[name] = right
				if err != nil ||
					e.Addr != whole.Addr ||
					e.Weight != whole.Weight ||
					!maps.Equal(got, fields) {
					t.Errorf("%s: Decode(%s) = %+v, %v, want the fields other than %s",
						s.name, value, e, err, name)
				}
			}
		}
	}
}
