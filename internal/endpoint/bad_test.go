package endpoint

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// sample is an entry at 10.0.0.7:9000, spelled as the writers of its format spell it.
type sample struct {
	name, etcdKey, value string
	reader               Reader
	instance             string // the last segment of the key, or ""
}

// samples has an entry of each JSON layout. The test file of a layout may add to it in init.
var samples = []sample{
	{"etcd's naming entry", "svc/a", `{"Op":0,"Addr":"10.0.0.7:9000","Metadata":{"version":"v2","zone":"z","weight":7,"k":"v"}}`, reader, ""},
	{"etcd's naming entry", "svc/a", `{"name":"svc","addr":"10.0.0.7:9000","version":"v2","zone":"z","weight":7,"metadata":{"k":"v"}}`, reader, ""},
	{"kratos entry", "svc/a", `{"id":"a","name":"svc","version":"v2","metadata":{"zone":"z","weight":"7","k":"v"},"endpoints":["grpc://10.0.0.7:9000?isSecure=false"]}`, reader, ""},
	{"kitex entry", "svc/10.0.0.7:9000", `{"network":"tcp","address":"10.0.0.7:9000","weight":7,"tags":{"version":"v2","zone":"z","k":"v"}}`, reader, ""},
	{"GoFrame entry", "svc/10.0.0.7:9000", `{"version":"v2","zone":"z","weight":7,"k":"v"}`, reader, ""},
	{"go-micro entry", "svc/a", `{"name":"svc","version":"v2","metadata":{"zone":"z"},"endpoints":[{"name":"A.B"}],` +
		`"nodes":[{"id":"a","address":"10.0.0.7:9000","metadata":{"weight":"7","k":"v"}}]}`, reader, ""},
	{"dubbo entry", "svc/10.0.0.7:9000", `{"ID":"a","ServiceName":"svc","Host":"10.0.0.7","Port":9000,"Enable":true,"Healthy":true,` +
		`"Metadata":{"version":"v2","zone":"z","weight":"7","k":"v"}}`, reader, ""},
	{"json_layout entry", "svc/a", `{"at":"10.0.0.7:9000","i":"a","ver":"v2","az":"z","w":7,"labels":{"k":"v"},"svc":"svc"}`,
		Reader{JSON: MappedJSON(JSONFields{Addr: "at", Instance: "i", Version: "ver", Zone: "az", Weight: "w", Metadata: "labels", Name: "svc"})}, ""},
	{"json_layout entry", "svc/a", `{"ip":"10.0.0.7","port":9000,"labels":{"version":"v2","zone":"z","weight":"7","k":"v"}}`,
		Reader{JSON: MappedJSON(JSONFields{Host: "ip", Port: "port", Metadata: "labels"})}, ""},
}

func (s sample) decode(value string) (Endpoint, error) {
	e, _, _, err := s.reader.Decode("svc", s.etcdKey, []byte(value), 0)
	return e, err
}

// whole is the endpoint that each sample describes.
var whole = Endpoint{Addr: "10.0.0.7:9000", Version: "v2", Zone: "z", Weight: 7, Metadata: map[string]string{"k": "v"}}

func TestSamples(t *testing.T) {
	for _, l := range table {
		if l.address != nil && !slices.ContainsFunc(samples, func(s sample) bool { return s.name == l.entry }) {
			t.Errorf("layout %v has no sample", l)
		}
	}
	for _, s := range samples {
		want := whole
		want.Instance = cmp.Or(s.instance, strings.TrimPrefix(s.etcdKey, "svc/"))
		if e, err := s.decode(s.value); err != nil || !e.Equal(want) {
			t.Errorf("%s: %s is %+v, %v", s.name, s.value, e, err)
		}
	}
}

// TestDecode_TruncatedValues reads entries truncated at every byte.
func TestDecode_TruncatedValues(t *testing.T) {
	for _, s := range samples {
		for n := range s.value {
			e, err := s.decode(s.value[:n])
			if err == nil {
				t.Errorf("%s: %s is %+v", s.name, s.value[:n], e)
			}
			checkError(t, err)
		}
	}
}

// TestDecode_WrongTypes puts a value of every type into every field, at every depth. Either the other
// fields of the entry are still read, or the error names the format.
func TestDecode_WrongTypes(t *testing.T) {
	kinds := []any{nil, true, false, 5, -1.5, 1e300, "", "x", "/", "10.0.0.8:1", "h:1,h:2,h:3,h:4,h:5", []any{}, []any{1}, []any{[]any{}},
		map[string]any{}, map[string]any{"a": map[string]any{}}, strings.Repeat("x", 300), map[string]any{"a": strings.Repeat("\n", 300)}}
	for _, s := range samples {
		var object map[string]any
		if err := json.Unmarshal([]byte(s.value), &object); err != nil {
			t.Fatal(err)
		}
		for path, put := range places(object) {
			for _, wrong := range kinds {
				value, err := json.Marshal(put(wrong))
				if err != nil {
					t.Fatal(err)
				}
				s.checkWrong(t, path, string(value))
			}
		}
	}
}

// checkWrong reads the sample with value in the place of the value at path.
func (s sample) checkWrong(t *testing.T, path, value string) {
	t.Helper()
	e, err := s.decode(value)
	if checkError(t, err); err != nil {
		text := err.Error()
		if !strings.HasPrefix(text, s.name+": ") && !strings.HasPrefix(text, "JSON that names no address") || strings.Contains(text, "json: ") {
			t.Errorf("%s\nis refused with the error of another layout: %s", value, text)
		}
		return
	}
	checkDialable(t, e.Addr)
	got := map[string]any{"version": e.Version, "zone": e.Zone, "weight": e.Weight, "k": e.Metadata["k"], "addr": e.Addr}
	for name, want := range map[string]any{"version": whole.Version, "zone": whole.Zone, "weight": whole.Weight, "k": whole.Metadata["k"], "addr": whole.Addr} {
		if got[name] != want && !slices.Contains(s.holds(path), name) {
			t.Errorf("%s\nhas another %s: %+v", value, name, e)
		}
	}
}

// meanings maps field names of the samples to the endpoint's fields, where the names differ.
var meanings = map[string]string{
	"Addr": "addr", "address": "addr", "Host": "addr", "Port": "addr", "at": "addr", "ip": "addr", "port": "addr", "endpoints[0]": "addr",
	"ver": "version", "az": "zone", "w": "weight",
}

// holds returns the endpoint's fields that are set by the field at path and the fields within it.
func (s sample) holds(path string) (all []string) {
	var object map[string]any
	if json.Unmarshal([]byte(s.value), &object) != nil {
		return nil
	}
	for other := range places(object) {
		if other == path || strings.HasPrefix(other, path+".") || strings.HasPrefix(other, path+"[") {
			name := other[strings.LastIndexByte(other, '.')+1:]
			all = append(all, cmp.Or(meanings[name], name))
		}
	}
	return all
}

// places maps the path of each value within an object to a function that returns the object with another value at that path.
func places(object map[string]any) map[string]func(any) any {
	all := make(map[string]func(any) any)
	var visit func(path string, value any, put func(any) any)
	visit = func(path string, value any, put func(any) any) {
		all[path] = put
		switch value := value.(type) {
		case map[string]any:
			for name := range value {
				visit(path+"."+name, value[name], func(wrong any) any {
					changed := maps.Clone(value)
					changed[name] = wrong
					return put(changed)
				})
			}
		case []any:
			for i := range value {
				visit(fmt.Sprintf("%s[%d]", path, i), value[i], func(wrong any) any {
					changed := slices.Clone(value)
					changed[i] = wrong
					return put(changed)
				})
			}
		}
	}
	visit("", object, func(v any) any { return v })
	delete(all, "")
	return all
}
