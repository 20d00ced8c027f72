package endpoint

import (
	"cmp"
	"strings"
	"testing"
)

// GoFrame's metadata may nest, for its values are of any type.
func TestGoFrameMetadata(t *testing.T) {
	for _, value := range []string{`{"labels":{"team":"blue"},"weight":5}`, `{"zones":["a"],"host":"node-7","weight":5}`, `{"grpc":"10.0.0.8:9000","weight":5}`} {
		const key = "/service/default/default/user/latest"
		e, layout, _, err := Reader{}.Decode(key, key+"/10.0.0.7:9000", []byte(value), 1)
		if err != nil || layout != GoFrame || e.Addr != "10.0.0.7:9000" || e.Weight != 5 {
			t.Errorf("%s: %+v, %v, %v", value, e, layout, err)
		}
	}
}

// What is in another known format, but without its address, is not one of GoFrame's.
func TestNotGoFrame(t *testing.T) {
	for _, value := range []string{
		`{"id":"10.0.0.7:9000","name":"user","version":"v1","metadata":null,"endpoints":null}`,
		`{"Op":1,"Addr":null}`,
		`{"network":"unix","address":null,"weight":1}`,
		`{"ServiceName":"user","Host":"10.0.0.7","Enable":false}`,
		`{"name":"user","addr":null}`,
	} {
		if e, layout, _, err := (Reader{}).Decode("a/user", "a/user/10.0.0.7:9000", []byte(value), 1); err == nil {
			t.Errorf("%s is read as %+v in %v", value, e, layout)
		}
	}
}

// Under a key that is not like GoFrame's, flat JSON is read at the address in the key unless it may have another one.
func TestGoFrameAddress(t *testing.T) {
	for _, tt := range []struct{ key, instance, value, wrong string }{
		{"", "10.0.0.7:8080", `{"endpoint":"10.0.0.7:8080","ver":"v2"}`, ""},
		{"", "10.0.0.7:8080,10.0.0.8:8080", `{"grpc":"10.0.0.8:8080"}`, ""},
		{"", "10.0.0.7:8080", `{"host":"10.0.0.7","port":8080}`, ""},
		{"", "10.0.0.7:8080", `{"starts":"12:30","protocol":"grpc","host":"node-7"}`, ""},
		{"", "10.0.0.7:8080", `{"grpc":"10.0.0.7:9000"}`, `"10.0.0.7:9000"`},
		{"", "10.0.0.7:8080", `{"grpcAddr":"10.0.0.7:9000"}`, `"10.0.0.7:9000"`},
		{"", "10.0.0.7:8080", `{"ip":"10.0.0.7","port":9000}`, `"10.0.0.7:9000"`},
		{"", "10.0.0.7:8080", `{"labels":{"k":"v"}}`, `"labels" nests`},
		{"/service/default/default/user/latest", "10.0.0.7:8080", `{"ip":"10.0.0.7","port":8080,"labels":{"k":"v"}}`, `"labels" nests`},
	} {
		key := cmp.Or(tt.key, "a/user")
		e, layout, _, err := Reader{}.Decode(key, key+"/"+tt.instance, []byte(tt.value), 1)
		switch {
		case tt.wrong == "" && (err != nil || layout != GoFrame || e.Addr != "10.0.0.7:8080"):
			t.Errorf("%s: %+v in %v, %v", tt.value, e, layout, err)
		case tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)):
			t.Errorf("%s: %+v in %v, error %v, want %q in it", tt.value, e, layout, err, tt.wrong)
		}
	}
}
