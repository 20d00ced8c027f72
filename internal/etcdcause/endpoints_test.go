package etcdcause

import "testing"

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
