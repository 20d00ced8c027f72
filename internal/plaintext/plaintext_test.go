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

func TestShown(t *testing.T) {
	for endpoint, want := range map[string]string{
		"http://root:s3cret@10.0.0.1:2379":           "http://10.0.0.1:2379",
		"HTTPS://root:s@cret@etcd.example/a@b":       "HTTPS://etcd.example/a@b",
		"https://root@[2001:db8::1]:2379?x=http://@": "https://[2001:db8::1]:2379?x=http://@",
		"http://etcd.example:2379":                   "http://etcd.example:2379",
		"etcd.example:2379":                          "etcd.example:2379",
		"http://root:s%zz@[::1":                      "http://[::1",
		"http://root:s/t@10.0.0.1:2379":              "http://10.0.0.1:2379",
		"http:/root:s@10.0.0.1:2379":                 "10.0.0.1:2379",
		"root:s3cret@10.0.0.1:2379":                  "10.0.0.1:2379",
		"unix://root@etcd":                           "unix://root@etcd",
	} {
		if got := Shown([]string{endpoint}); got[0] != want {
			t.Errorf("Shown(%s) = %s, want %s", endpoint, got[0], want)
		}
	}
}
