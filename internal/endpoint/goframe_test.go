package endpoint

import (
	"cmp"
	"strings"
	"testing"
)

// TestGoFrameAddress checks that metadata may nest under a key like GoFrame's.
// Under other keys, flat JSON has the address in the key, unless the JSON may
// name a different address or is in another known format.
func TestGoFrameAddress(t *testing.T) {
	for _, tt := range []struct{ key, instance, value, wrong string }{
		{"", "10.0.0.7:8080,10.0.0.8:8080", `{"grpc":"10.0.0.8:8080"}`, ""},
		{"", "10.0.0.7:8080", `{"host":"10.0.0.7","port":8080}`, ""},
		{"", "10.0.0.7:8080", `{"starts":"12:30","protocol":"grpc","host":"node-7"}`, ""},
		{"", "10.0.0.7:8080", `{"grpc":"10.0.0.7:9000"}`, `"10.0.0.7:9000"`},
		{"", "10.0.0.7:8080", `{"ip":"10.0.0.7","port":9000}`, `"10.0.0.7:9000"`},
		{"", "10.0.0.7:8080", `{"labels":{"k":"v"}}`, `"labels" nests`},
		{"/service/default/default/user/latest", "10.0.0.7:8080",
			`{"ip":"10.0.0.7","port":8080,"labels":{"k":"v"}}`, `"labels" nests`},
		{"/service/default/default/user/latest", "10.0.0.7:8080",
			`{"zones":["a"],"host":"node-7"}`, ""},
		{"/service/default/default/user/latest", "10.0.0.7:8080", `{"grpc":"10.0.0.8:9000"}`, ""},
		{"", "10.0.0.7:8080", `{"Op":1,"Addr":null}`, "etcd's naming"},
		{"", "10.0.0.7:8080", `{"network":"unix","address":null,"weight":1}`, "kitex"},
		{"", "10.0.0.7:8080", `{"ServiceName":"user","Host":"10.0.0.7","Enable":false}`, "dubbo"},
	} {
		key := cmp.Or(tt.key, "a/user")
		e, layout, _, err := Reader{}.Decode(key, key+"/"+tt.instance, []byte(tt.value), 1)
		switch {
		case tt.wrong == "" && (err != nil || layout != GoFrame || e.Addr != "10.0.0.7:8080"):
			t.Errorf(
				"%s: got %+v in layout %v, error %v, want the address 10.0.0.7:8080 in layout %v",
				tt.value, e, layout, err, GoFrame)

		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s: got %+v in layout %v, error %v, want an error with %q",
				tt.value, e, layout, err, tt.wrong)
		}
	}
}
