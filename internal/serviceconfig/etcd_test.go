package serviceconfig

import (
	"reflect"
	"slices"
	"testing"
)

// Different matches have different keys, even if fmt prints them alike.
func TestSplit_KeysDiffer(t *testing.T) {
	keys := map[string]int{}
	for i, match := range []map[string]string{
		{"a": "b c:d"}, {"a": "b", "c": "d"}, {"a": `b" "c":"d`}, {"a": `b"="c`}, {"a": "", "b": ""}, {"a": `";"b"="`}, {"a": "b"}, {"a b": ""},
	} {
		key := Split{Match: match, Weight: uint32(i)}.Key()
		if other, taken := keys[key]; taken {
			t.Errorf("the different splits %d and %d have the same key %s", other, i, key)
		}
		keys[key] = i
	}
	a, b := Split{Match: map[string]string{"a": "1", "b": "2"}, Weight: 1}, Split{Match: map[string]string{"b": "2", "a": "1"}, Weight: 2}
	if a.Key() != b.Key() {
		t.Errorf("equal matches have the keys %s and %s, want equal keys", a.Key(), b.Key())
	}
}

func TestOptions_AreTheFieldsOfEtcd(t *testing.T) {
	var fields, options []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Etcd]()) {
		fields = append(fields, jsonName(f))
	}
	for _, o := range Options {
		options = append(options, o.Name)
	}
	if !slices.Equal(options, fields) {
		t.Errorf("the options are %q, want the fields of Etcd, %q", options, fields)
	}
}
