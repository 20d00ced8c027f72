package plaintext

import (
	"slices"
	"testing"
)

func TestExposed(t *testing.T) {
	list := func(all ...string) []string { return all }
	for _, tt := range []struct {
		endpoints []string
		tls       bool
		want      []string
	}{
		{nil, false, nil},
		{list("http://10.0.0.1:2379"), false, list("10.0.0.1:2379")},
		{list("HTTP://etcd.example:2379"), false, list("etcd.example:2379")},
		{list("10.0.0.1:2379"), false, list("10.0.0.1:2379")},
		{list("http://[2001:db8::1]"), false, list("[2001:db8::1]")},
		{list("http://user:secret@10.0.0.1:2379/path"), false, list("10.0.0.1:2379")},
		{list("dns:///etcd.example:2379"), false, list("etcd.example:2379")},
		{list("http://%zz"), false, list("http://%zz")},
		{list("http://root:%zz@etcd:1"), false, list("etcd:1")},

		{list("https://10.0.0.1:2379"), false, nil},
		{list("10.0.0.1:2379"), true, nil},
		{list("dns:///etcd.example:2379"), true, nil},
		{list("unix:///run/etcd.sock"), false, nil},
		{list("unixs:///run/etcd.sock"), false, nil},

		{list("http://127.0.0.1:2379"), false, nil},
		{list("127.1.2.3:2379", "localhost:2379", "LOCALHOST.:2379", "etcd.localhost", "[::1]:2379", "::1", "[::1]"), false, nil},
		{list(":2379", "0.0.0.0:2379", "[::]:2379", "[::ffff:127.0.0.1]:2379"), false, nil},
		{list("localhost.example:2379"), false, list("localhost.example:2379")},

		// The first endpoint decides for all.
		{list("http://127.0.0.1:2379", "https://10.0.0.1:2379"), true, list("10.0.0.1:2379")},
		{list("https://10.0.0.1:2379", "http://10.0.0.2:2379"), false, nil},
		{list("10.0.0.1:2379", "http://10.0.0.2:2379"), true, nil},
		{list("127.0.0.1:2379", "10.0.0.1:2379", "10.0.0.2:2379"), false, list("10.0.0.1:2379", "10.0.0.2:2379")},
		{list("unix:///run/etcd.sock", "10.0.0.1:2379"), false, list("10.0.0.1:2379")},
	} {
		if got := Exposed(tt.endpoints, tt.tls); !slices.Equal(got, tt.want) {
			t.Errorf("Exposed(%q, %v) = %q, want %q", tt.endpoints, tt.tls, got, tt.want)
		}
	}
}
