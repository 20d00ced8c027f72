package serviceconfig

import (
	"encoding/json"
	"reflect"
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
	for _, o := range Options {
		if jsonName(o.field()) != o.Name {
			t.Errorf("Etcd has no field for the option %s", o.Name)
		}
	}
	if n := reflect.TypeFor[Etcd]().NumField(); n != len(Options) {
		t.Errorf("there are %d options for %d fields of Etcd, want one for each", len(Options), n)
	}
}

func TestParseEtcd(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{}`, `{"childPolicy":[{"round_robin":{}}]}`},
		{`{"subset":2,"childPolicy":[{"custom":{"any":[1,null]}},{"round_robin":{}}]}`, `{"subset":2,"childPolicy":[{"custom":{"any":[1,null]}},{"round_robin":{}}]}`},
		{``, `policy "etcd": the service config is empty: want a JSON object`},
		{`{"preferZone":true,"childPolicy":[{"round_robin":{}},{"custom":{}}]}`, `policy "etcd": preferZone: has no effect beside "custom", which stands alone: leave it out, or choose a policy of ours such as round_robin`},
	} {
		got := ""
		e, err := ParseEtcd(json.RawMessage(tt.text))
		if err != nil {
			got = err.Error()
		} else if text, err := marshal(e); err == nil {
			got = string(text)
		}
		if got != tt.want {
			t.Errorf("ParseEtcd(%s) = %s\nwant %s", tt.text, got, tt.want)
		}
	}
}
