package doctor

import (
	"errors"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

func TestAddressOf(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"10.0.0.7:9000", "hello", "10.0.0.7:9000"},
		{"one", "http://10.0.0.7:9000/path?x", "10.0.0.7:9000"},
		{"one", "10.0.0.7:9000,10.0.0.8:9000", "10.0.0.7:9000"},
		{"one", "10.0.0.7", ""},
		{"one%", "", ""},
	} {
		e := inventory.Entry{Key: "a/" + tt.name, Value: []byte(tt.value)}
		i := inventory.Instance{Entry: e, Err: errors.New("malformed")}
		i.Instance = tt.name
		if got := addressOf(&i); got != tt.want {
			t.Errorf("%s, %s: %q, want %q", tt.name, tt.value, got, tt.want)
		}
	}
}
