package registrar

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

func ptr[T any](v T) *T {
	return &v
}

func TestNewEntry(t *testing.T) {
	for name, tt := range map[string]struct {
		key  string
		ttl  time.Duration
		ep   endpoint.Endpoint
		d    Details
		want string
	}{
		"all right": {"a/b", time.Second, endpoint.Endpoint{}, Details{}, ""},
		"bad key":   {"a/", time.Second, endpoint.Endpoint{}, Details{}, "slash"},
		"no TTL": {"a", 0, endpoint.Endpoint{}, Details{},
			"the lease TTL is 0s: want whole seconds"},
		"reserved name": {"a", time.Second, endpoint.Endpoint{},
			Details{Metadata: map[string]string{"weight": "1"}}, `"weight" is reserved`},
		"the mark itself": {"a", time.Second, endpoint.Endpoint{},
			Details{Metadata: map[string]string{endpoint.LeavingName: "true"}}, "reserved"},
	} {
		e, err := NewEntry(tt.key, nil, tt.ttl, tt.ep, tt.d, "a.A")
		if (err == nil) != (tt.want == "") ||
			err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}

		if err == nil && !slices.Equal(e.Layouts, []endpoint.Layout{endpoint.EndpointJSON}) {
			t.Errorf("%s: the layouts are %v, want endpoint_json", name, e.Layouts)
		}
	}
}

func TestDetails(t *testing.T) {
	given := endpoint.Endpoint{
		Instance: "i",
		Version:  "v1",
		Zone:     "z",
		Weight:   1,
		Metadata: map[string]string{"a": "1", "b": "1"},
	}
	for name, tt := range map[string]struct {
		d    Details
		want endpoint.Endpoint
	}{
		"nothing": {Details{}, given},
		"everything": {
			Details{ptr("j"), ptr("v2"), ptr(""), ptr(uint32(0)),
				map[string]string{"b": "2", "c": "2"}},
			endpoint.Endpoint{
				Instance: "j",
				Version:  "v2",
				Metadata: map[string]string{"a": "1", "b": "2", "c": "2"},
			},
		},
	} {
		if got, err := tt.d.Apply(given); err != nil || !got.Equal(tt.want) {
			t.Errorf("%s: Apply = %+v, %v, want %+v", name, got, err, tt.want)
		}
	}

	if given.Metadata["b"] != "1" {
		t.Error("the given endpoint was changed")
	}
}

// An entry has a mark of leaving if its layout has room for one (K3).
func TestItems(t *testing.T) {
	layouts := []endpoint.Layout{endpoint.EndpointJSON, endpoint.Kitex, endpoint.GoZero,
		endpoint.LeaseSuffix}
	items, err := at("a", "i", "h:1", 15, layouts...).items("ns/")
	must.Succeed(t, err)

	for i, want := range []string{"ns/a/i", "ns/a/h:1", "ns/a/7", "ns/a7"} {
		if got := items[i].Key(clientv3.LeaseID(7)); got != want {
			t.Errorf("layout %s: key %q, want %q", layouts[i], got, want)
		}

		if items[i].Leaving != "" != layouts[i].Metadata() {
			t.Errorf("layout %s: the value with the mark is %q, want one: %v", layouts[i],
				items[i].Leaving, layouts[i].Metadata())
		}
	}

	want := `{"Op":0,"Addr":"h:1","Metadata":{"grpc_leaving":"true"}}`
	if items[0].Leaving != want {
		t.Errorf("the value with the mark is %s, want %s", items[0].Leaving, want)
	}

	full := at("a", "i", "h:1", 15)
	room := endpoint.MaxValue - len(`{"Op":0,"Addr":"h:1","Metadata":{"m":""}}`)
	full.Endpoint.Metadata = map[string]string{"m": strings.Repeat("x", room)}

	items, err = full.items("")
	if err != nil || len(items[0].Value) != endpoint.MaxValue || items[0].Leaving != "" {
		t.Errorf("a value of maximum length: %d bytes, with the mark %q, %v; want no mark",
			len(items[0].Value), items[0].Leaving, err)
	}
}

func TestItemsAreRefused(t *testing.T) {
	json := endpoint.EndpointJSON
	for want, e := range map[string]Entry{
		"no address":          at("a", "i", "", 15),
		"nobody can dial":     at("a", "i", "0.0.0.0:1", 15),
		"instance":            at("a", "i/j", "h:1", 15),
		"layout plain":        at("a", "i", "h", 15, endpoint.Plain),
		"without a scheme":    at("a", "", "http://10.0.0.7:9000", 15),
		"from 1 to 65535":     at("a", "", "unix:x", 15),
		"must not have ' '":   at("a", "", "10.0.0.7 :9000", 15),
		"would write one key": at("a", "i", "h:1", 15, json, endpoint.Plain),
		"on the lease 1":      at("a", "1", "h:1", 15, json, endpoint.GoZero),

		`would write one key, "a/h:1"`: at("a", "h:1", "h:1", 15, json, endpoint.Kitex),

		// Another instance id would make GoFrame's own callers panic.
		`"a/h:1": leave one out`: at("a", "h:1", "h:1", 15, json, endpoint.GoFrame),
	} {
		_, err := e.complete().items("")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("items of %+v: %v, want %q", e, err, want)
		}
	}
}

func TestAtAnAddress(t *testing.T) {
	methods := map[string][]string{"a.A": {"Say", "Bye"}, "a.B": {"Do"}, "c.C": {"Other"}}
	e := published(t, "a.B", "a")
	e.Services = append(e.Services, "a.A", "a.None")
	started := time.Unix(1_700_000_000, 5)
	at := func() endpoint.Endpoint {
		e, _, _ := e.at("h:1", started, methods, "")
		return e.Endpoint
	}

	got := at()
	if since, ok := got.Started(); !ok || !since.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("Started() = %v, %v, want 1700000000 s", since, ok)
	}

	if got.Addr != "h:1" ||
		got.Instance != "h:1" ||
		got.Metadata[endpoint.MethodsName] != "a.A/Bye,Say;a.B/Do" {
		t.Errorf(
			"the endpoint is %+v, want h:1 as instance and address, and the methods of a.A and a.B",
			got)
	}

	if len(e.Endpoint.Metadata) > 0 || e.Endpoint.Addr != "" {
		t.Error("the published entry was changed")
	}

	methods["a.A"] = []string{strings.Repeat("x", endpoint.MaxMethods)}

	if got := at().Metadata; len(got) != 1 {
		t.Errorf("with methods that are too long, the metadata is %v, want the start time alone",
			got)
	}

	e.Endpoint.Instance = "i"
	if at().Instance != "i" {
		t.Error("the instance id is replaced")
	}
}

// Registrations and servers accept the same metadata: the runtime omits its own
// if the mark of leaving would not fit. An error names the piece of metadata
// that is too large (G34).
func TestOneRuleForMetadata(t *testing.T) {
	methods := map[string][]string{"a.A": {strings.Repeat("Say", 100)}}
	pieces := func(n int) map[string]string {
		all := make(map[string]string)
		for i := range n {
			all[fmt.Sprintf("m%03d", i)] = "x"
		}

		return all
	}

	one := func(n int) map[string]string {
		return map[string]string{"long": strings.Repeat("x", n), "short": "x"}
	}

	room := endpoint.MaxValue - len(`{"Op":0,"Addr":"h:1","Metadata":{"long":"","short":"x"}}`)
	for _, tt := range []struct {
		what     string
		metadata map[string]string
		err      string
		started  bool // there is room for the start time
		marked   bool // there is room for the mark of leaving
	}{
		{"room for both", pieces(endpoint.MaxMetadata - 3), "", true, true},
		{"room for the mark alone", pieces(endpoint.MaxMetadata - 1), "", false, true},
		{"the maximum of pieces", pieces(endpoint.MaxMetadata), "", false, false},
		{"one piece too many", pieces(endpoint.MaxMetadata + 1),
			`more than 256 pieces of metadata: leave out "m256"`, false, false},
		{"a value with room for the mark alone", one(room - 40), "", false, true},
		{"a value of maximum length", one(room), "", false, false},
		{"a value that is too long", one(room + 1), `shorten the metadata, "long" above all`,
			false, false},
	} {
		e := published(t, "a.A", "a")
		e.Endpoint.Metadata = tt.metadata
		announced, items, announceErr := e.at("h:1", time.Unix(1_700_000_000, 0), methods, "")
		_, started := announced.Endpoint.Started()

		marked := announceErr == nil && announced.markable(items)
		if started != tt.started || marked != tt.marked {
			t.Errorf("%s: room for the start time %v and for the mark %v, want %v and %v", tt.what,
				started, marked, tt.started, tt.marked)
		}

		e.Endpoint.Addr = "h:1"

		_, err := e.complete().items("")
		for _, err := range []error{err, announceErr} {
			if (err == nil) != (tt.err == "") ||
				err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.what, err, tt.err)
			}
		}
	}
}

func TestWarning(t *testing.T) {
	for want, layouts := range map[string][]endpoint.Layout{
		"":                              {endpoint.GoZero, endpoint.EndpointJSON},
		"kratos' own reader":            {endpoint.Kratos, endpoint.GoZero},
		": leave out the layout kratos": {endpoint.Kratos, endpoint.Kitex},
	} {
		got := at("a", "i", "h:1", 15, layouts...).warning()
		if !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("warning for %v = %q, want %q", layouts, got, want)
		}
	}
}

func TestUpdate(t *testing.T) {
	e := at("a", "i", "h:1", 15)
	got, err := e.update(nil, Details{Version: ptr("v2"), Instance: ptr("i")})
	if err != nil || got.Endpoint.Version != "v2" {
		t.Errorf("update = %+v, %v, want version v2", got, err)
	}

	if _, err := e.update(e.Layouts, Details{}); err != nil {
		t.Errorf("update with the same layouts: %v, want nil", err)
	}

	for want, err := range map[string]error{
		"cannot change the layouts": second(
			e.update([]endpoint.Layout{endpoint.Plain}, Details{})),
		"cannot change the instance id": second(
			e.update(nil, Details{Instance: ptr("j")})),
		"reserved": second(
			e.update(nil, Details{Metadata: map[string]string{"zone": "z"}})),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error of an update is %v, want %q", err, want)
		}
	}
}

func second(_ Entry, err error) error {
	return err
}
