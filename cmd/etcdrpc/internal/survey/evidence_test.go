package survey

import (
	"testing"

	_ "github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func TestWantsAddress(t *testing.T) {
	for value, want := range map[string]bool{
		"10.0.0.7":                      true,
		"10.0.0.7:":                     true,
		":9000":                         true,
		":x":                            false,
		"10.0.0.7:99999":                true,
		"user:0":                        true,
		"10.0.0.7:80,10.0.0.8:80":       true,
		"grpc://10.0.0.7:9000":          true,
		"dns:///user:9000":              true,
		"unix:/run/user.sock":           true,
		`{"Addr":"10.0.0.7`:             true,
		`{"since":"2026"}`:              false,
		"":                              false,
		"hello":                         false,
		"started by worker 3":           false,
		"http://10.0.0.7:8080":          false,
		"postgres://10.0.0.7:5432/user": false,
		"2026-01-02T03:04:05Z":          false,
		"k8s\x00\n\x02v1":               false,
	} {
		if got := wantsAddress(value); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}
